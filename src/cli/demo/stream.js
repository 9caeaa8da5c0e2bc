// A live query over a websocket: takes the rows that are there, folds the changes into them, and resumes where it was
// after a disconnect.
//
// The one thing to know: a query holds its rows, its position and its epoch together. With them it comes back after any
// disconnect and gets what it missed, no more and no less.

const BACKOFF_MS = { first: 200, most: 5000 };
// After so long without a word from the server it is asked for one; after as long again the connection is dead.
const SILENCE_MS = 10000;
// Coming back unchanged would end the same way: protocol errors, text that is not UTF-8, a message that is too big.
const FINAL_CODES = [1002, 1007, 1009];

/** One live query and its result so far. */
export class Query {
  /** `options` go into the `subscribe` message as they are: params, columns, undecided and so on. */
  constructor(id, table, where, options = {}) {
    this.id = id;
    this.table = table;
    this.where = where;
    this.options = options;
    this.rows = new Map(); // key as JSON -> row, the last changed last
    this.key = [];
    this.columns = [];
    this.warnings = [];
    this.position = null; // complete up to here
    this.begun = false; // has all rows that were there: until then a disconnect begins it anew
    this.epoch = null;
    this.now = undefined; // what now() is in the predicate, if that asks for it: what it goes on with must be as of then
    this.live = false; // caught up: moves with the connection
    this.resumed = null; // what came since the last disconnect, until it is live again
    this.faults = 0; // changes that came twice or out of order: there must be none
    this.attempts = 0; // subscriptions in a row that the server ended before they were live
    this.alike = new Map(); // without a key: row as JSON -> keys in `rows` of all the rows that are equal to it
    this.made = 0;
  }

  /** The message that starts it under a name, or starts it again where it was. */
  subscribe(id) {
    const message = { ...this.options, type: "subscribe", id, table: this.table };
    if (this.where) message.where = this.where;
    if (!this.begun) return { ...message, snapshot: true };
    return { ...message, from: this.position, epoch: this.epoch, now: this.now };
  }

  /** Forgets its rows and its place: it begins again. */
  reset() {
    this.clear();
    this.begun = false;
    this.position = null;
    this.resumed = null;
  }

  clear() {
    this.rows.clear();
    this.alike.clear();
  }

  /** Takes rows that are there. */
  fill(rows) {
    for (const row of rows) this.rows.set(this.keyOfNew(row), row);
  }

  /**
   * Applies one change. Returns what it meant: { op, key, oldKey, row, before, cause, undecided }; a row that is
   * undecided may be in the result or not.
   */
  apply(change) {
    const { op, cause } = change;
    if (op === "truncate") {
      this.clear();
      return { op };
    }
    const oldKey = this.keyOfOld(change);
    const before = this.rows.get(oldKey);
    // Nothing that the predicate reads has changed: what is not in the result stays out of it.
    if (change.as_before && !before) return { op: "none" };
    if (op === "insert" && before) this.faults += 1;
    this.rows.delete(oldKey);
    if (op === "delete") return { op, key: oldKey, before, cause };
    // Of an oversize row only the key is known.
    const row = { ...(change.row ?? change.new_key ?? change.key) };
    for (const name of change.unchanged ?? []) row[name] = before?.[name];
    const key = this.keyOfNew(row);
    this.rows.set(key, row);
    return { op, key, oldKey: oldKey ?? key, row, before, cause, undecided: change.undecided === true };
  }

  /** The key in `rows` of the row that a change replaces or takes away; undefined if there is none. */
  keyOfOld({ op, key, row, old }) {
    if (this.key.length > 0) return this.keyOf(key ?? row ?? old);
    // Equal rows are several rows: one of them goes.
    return op === "insert" ? undefined : this.alike.get(JSON.stringify(old))?.pop();
  }

  /** The key in `rows` of a row that comes. */
  keyOfNew(row) {
    if (this.key.length > 0) return this.keyOf(row);
    const key = `row ${(this.made += 1)}`;
    const text = JSON.stringify(row);
    const keys = this.alike.get(text) ?? [];
    this.alike.set(text, keys);
    keys.push(key);
    return key;
  }

  keyOf(row) {
    return JSON.stringify(this.key.map((name) => row[name]));
  }

  /** Notes that everything up to `position` is applied. */
  advance(position) {
    if (this.position !== null && compare(position, this.position) < 0) this.faults += 1;
    this.position = position;
  }
}

/**
 * A connection that comes back by itself. Reports to `on`:
 * state(name, detail), subscribed(query), transaction(query, tx, meanings), live(query), progress(query),
 * refused(query, error), restarted(query, error), failed(error).
 */
export class Stream {
  /** `token`, if there is one, promises a token: for each connection, and again before the last one expires. */
  constructor(url, on, { silence = SILENCE_MS, token } = {}) {
    this.url = url;
    this.on = on;
    this.silence = silence;
    this.token = token;
    this.queries = new Set();
    // Each subscription has a name of its own: messages of one that has ended may still come, and are nobody's.
    this.subscriptions = new Map(); // name -> query
    this.subscribed = 0;
    this.attempts = 0;
    this.wanted = false;
    this.greeted = false;
    this.epoch = null;
    this.position = null;
    globalThis.addEventListener?.("online", () => this.retry());
  }

  async connect() {
    this.wanted = true;
    clearTimeout(this.timer);
    this.on.state("connecting");
    const attempt = (this.attempt = {});
    let token;
    try {
      token = await this.token?.();
    } catch (error) {
      if (this.attempt === attempt && this.wanted) this.closed({ code: 1006, reason: `no token: ${error.message}` });
      return;
    }
    // Disconnected, or connected again, meanwhile.
    if (this.attempt !== attempt || !this.wanted) return;
    const socket = new WebSocket(this.url, "walcast.v1");
    this.socket = socket;
    // Before hello is answered: what is subscribed to is judged by the token.
    socket.onopen = () => token && this.send({ type: "auth", token });
    socket.onmessage = (event) => this.socket === socket && this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.socket === socket && this.closed(event);
    this.heard();
    this.watch = setInterval(() => this.listen(), this.silence / 4);
  }

  /** Replaces the token, which expires soon. If none can be had, the connection ends with the old one. */
  async renew() {
    const socket = this.socket;
    try {
      const token = await this.token?.();
      if (token && this.open && this.socket === socket) this.send({ type: "auth", token });
    } catch (error) {
      this.on.failed({ code: "no_token", message: error.message });
    }
  }

  /** Connects at once if it is waiting to. */
  retry() {
    if (this.wanted && !this.socket) this.connect();
  }

  disconnect() {
    this.wanted = false;
    this.drop(1000, "");
  }

  /** Leaves the connection, whether or not the other side still answers. */
  drop(code, reason) {
    clearTimeout(this.timer);
    this.socket?.close();
    this.closed({ code, reason });
  }

  heard() {
    this.heardAt = performance.now();
    this.askedAt = null;
  }

  /** Notices a connection that is dead and does not say so: a network that is gone, a machine that slept. */
  listen() {
    const now = performance.now();
    if (this.askedAt !== null && now - this.askedAt > this.silence) return this.drop(1006, "the server is silent");
    if (this.askedAt !== null || now - this.heardAt < this.silence) return;
    this.askedAt = now;
    if (this.open) this.send({ type: "ping", ref: 0 });
  }

  get open() {
    return this.greeted && this.socket?.readyState === WebSocket.OPEN;
  }

  add(query) {
    this.queries.add(query);
    if (this.open) this.subscribe(query);
  }

  remove(query) {
    this.queries.delete(query);
    const name = this.nameOf(query);
    if (name === undefined) return;
    this.subscriptions.delete(name);
    if (this.open) this.send({ type: "unsubscribe", id: name });
  }

  subscribe(query) {
    const name = `${query.id} ${(this.subscribed += 1)}`;
    this.subscriptions.set(name, query);
    this.send(query.subscribe(name));
  }

  nameOf(query) {
    for (const [name, subscribed] of this.subscriptions) if (subscribed === query) return name;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  closed({ code, reason }) {
    clearInterval(this.watch);
    this.socket = null;
    this.greeted = false;
    this.subscriptions.clear();
    for (const query of this.queries) {
      query.live = false;
      if (!query.begun) continue;
      query.resumed ??= { from: query.position, since: Date.now(), changes: 0, transactions: new Set() };
    }
    if (this.wanted && (code >= 4500 || FINAL_CODES.includes(code))) {
      this.wanted = false;
      return this.on.state("refused", reason || `closed with ${code}`);
    }
    if (!this.wanted) return this.on.state("offline");
    const delay = this.delay(code, reason);
    this.on.state("waiting", { delay, code, reason });
    this.timer = setTimeout(() => this.connect(), delay);
  }

  /** How long to wait: a server that stops names the seconds to spread over, else it doubles; always with jitter. */
  delay(code, reason) {
    const spread = code === 1001 ? Number(/spread=(\d+)/.exec(reason)?.[1] ?? 0) * 1000 : 0;
    const wait = backoff(this.attempts);
    this.attempts += 1;
    return Math.random() * Math.max(spread, wait / 2) + wait / 2;
  }

  receive(message) {
    this.heard();
    const query = this.subscriptions.get(message.id);
    switch (message.type) {
      case "hello":
        return this.welcome(message);
      case "subscribed":
        return query && this.accepted(query, message);
      case "snapshot":
        if (!query) return;
        query.fill(message.rows);
        return this.on.progress(query);
      case "tx":
        return this.transaction(message);
      case "live":
        return query && this.caughtUp(query, message);
      case "progress":
        this.position = message.position;
        return this.each((live) => {
          live.advance(message.position);
          this.on.progress(live);
        });
      case "token_expiring":
        return this.renew();
      case "error":
        if (query) return this.ended(query, message);
        return message.id === undefined && this.on.failed(message); // else of one that was removed meanwhile
      default: // The protocol may grow.
    }
  }

  welcome(hello) {
    this.greeted = true;
    this.attempts = 0;
    this.epoch = hello.epoch;
    this.position = hello.position;
    this.on.state("connected", hello);
    for (const query of this.queries) this.subscribe(query);
  }

  accepted(query, message) {
    if (!query.begun) query.clear();
    Object.assign(query, {
      key: message.key,
      columns: message.columns,
      warnings: message.warnings,
      now: message.now,
      position: message.position,
      epoch: this.epoch,
    });
    this.on.subscribed(query);
  }

  /** A frame of a transaction: for one query that catches up, or for every live one. */
  transaction(tx) {
    if (!tx.id) this.position = tx.position;
    for (const [name, query] of [...this.subscriptions]) {
      if (tx.id ? tx.id !== name : !query.live) continue;
      const changes = tx.changes.filter((change) => change.id === name);
      if (query.key.length === 0 && changes.some((change) => change.oversize)) {
        // Neither the row nor a key says which row it was.
        this.send({ type: "unsubscribe", id: name });
        this.ended(query, { code: "oversize", message: "a row without a key is larger than the server sends" });
        continue;
      }
      const meanings = changes.map((change) => query.apply(change)).filter(({ op }) => op !== "none");
      query.advance(tx.position);
      if (query.resumed && changes.length > 0) {
        query.resumed.changes += changes.length;
        query.resumed.transactions.add(tx.xid);
      }
      this.on.transaction(query, tx, meanings);
    }
  }

  caughtUp(query, message) {
    query.live = query.begun = true;
    query.attempts = 0;
    query.advance(message.position);
    this.on.live(query);
    query.resumed = null;
  }

  /** The server refused a subscription, or ended it. */
  ended(query, error) {
    this.subscriptions.delete(this.nameOf(query));
    query.live = false;
    if (["resume_expired", "resume_invalid", "schema_changed", "oversize"].includes(error.code)) {
      // The history that its rows came from is over, or the table is another: what it holds may be wrong.
      query.reset();
      this.on.restarted(query, error);
      return this.again(query, 0);
    }
    // The database could not be asked just now: its place is still good.
    const isBusy = error.code === "internal" || /snapshots$/.test(error.limit);
    if (isBusy) return this.again(query, BACKOFF_MS.first);
    if (error.code === "rate_limited") return this.again(query, error.retry_after_ms ?? BACKOFF_MS.first);
    this.queries.delete(query);
    this.on.refused(query, error);
  }

  /** Subscribes once more, later each time that it ends before it is live. */
  again(query, least) {
    const delay = query.attempts === 0 ? least : Math.max(least, backoff(query.attempts));
    query.attempts += 1;
    const connection = this.socket;
    setTimeout(() => {
      const isWanted = this.queries.has(query) && this.nameOf(query) === undefined;
      if (isWanted && this.open && this.socket === connection) this.subscribe(query);
    }, delay);
  }

  each(visit) {
    for (const query of this.subscriptions.values()) if (query.live) visit(query);
  }
}

function backoff(attempts) {
  return Math.min(BACKOFF_MS.first * 2 ** attempts, BACKOFF_MS.most);
}

/** Orders positions, `16/B374D848` and `16/B374D848:17`: every change of a transaction comes before its end. */
export function compare(a, b) {
  const [x, y] = [parts(a), parts(b)];
  const at = x.findIndex((part, i) => part !== y[i]);
  return at < 0 ? 0 : x[at] < y[at] ? -1 : 1;
}

function parts(position) {
  const [lsn, seq] = position.split(":");
  return [...lsn.split("/").map((half) => parseInt(half, 16)), seq === undefined ? Infinity : Number(seq)];
}
