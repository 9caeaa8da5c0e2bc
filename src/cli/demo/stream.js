// A live query over a websocket: takes the rows that are there, folds the changes into them, and resumes where it was
// after a disconnect.
//
// The one thing to know: a query holds its rows, its position and its epoch together. With them it comes back after any
// disconnect and gets what it missed, no more and no less.

const BACKOFF_MS = { first: 200, most: 5000 };

/** One live query and its result so far. */
export class Query {
  constructor(id, table, where) {
    this.id = id;
    this.table = table;
    this.where = where;
    this.rows = new Map(); // key as JSON -> row, the last changed last
    this.key = [];
    this.columns = [];
    this.warnings = [];
    this.position = null; // complete up to here
    this.begun = false; // has all rows that were there: until then a disconnect begins it anew
    this.epoch = null;
    this.live = false; // caught up: moves with the connection
    this.resumed = null; // what came since the last disconnect, until it is live again
    this.faults = 0; // changes that came twice or out of order: there must be none
  }

  /** The message that starts it, or starts it again where it was. */
  subscribe() {
    const message = { type: "subscribe", id: this.id, table: this.table };
    if (this.where) message.where = this.where;
    if (!this.begun) return { ...message, snapshot: true };
    return { ...message, from: this.position, epoch: this.epoch };
  }

  /** Takes rows that are there. */
  fill(rows) {
    for (const row of rows) this.rows.set(this.keyOf(row), row);
  }

  /** Applies one change. Returns what it meant: { op, key, row, before }. */
  apply(change) {
    if (change.op === "truncate") {
      this.rows.clear();
      return { op: "truncate" };
    }
    // Of an oversize row only the key is known.
    const known = change.row ?? change.new_key ?? change.key;
    const key = this.keyOf(known ?? change.old);
    const oldKey = change.key ? this.keyOf(change.key) : key;
    const before = this.rows.get(oldKey);
    if (change.op === "insert" && before) this.faults += 1;
    this.rows.delete(oldKey);
    if (change.op === "delete") return { op: "delete", key, before, cause: change.cause };
    const row = { ...known };
    for (const name of change.unchanged ?? []) row[name] = before?.[name];
    this.rows.set(key, row);
    return { op: change.op, key, oldKey, row, before, cause: change.cause };
  }

  keyOf(row) {
    const names = this.key.length > 0 ? this.key : Object.keys(row);
    return JSON.stringify(names.map((name) => row[name]));
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
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.queries = new Map();
    this.attempts = 0;
    this.wanted = false;
    this.greeted = false;
    this.epoch = null;
    this.position = null;
  }

  connect() {
    this.wanted = true;
    clearTimeout(this.timer);
    this.on.state("connecting");
    const socket = new WebSocket(this.url, "walcast.v1");
    this.socket = socket;
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => {
      if (this.socket === socket) this.closed(event);
    };
  }

  disconnect() {
    this.wanted = false;
    clearTimeout(this.timer);
    this.socket?.close(1000);
    this.closed({ code: 1000, reason: "" });
  }

  get open() {
    return this.greeted && this.socket?.readyState === WebSocket.OPEN;
  }

  add(query) {
    this.queries.set(query.id, query);
    if (this.open) this.send(query.subscribe());
  }

  remove(query) {
    if (this.queries.delete(query.id) && this.open) this.send({ type: "unsubscribe", id: query.id });
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  closed({ code, reason }) {
    this.socket = null;
    this.greeted = false;
    for (const query of this.queries.values()) {
      query.live = false;
      if (!query.begun) continue;
      query.resumed ??= { from: query.position, since: Date.now(), changes: 0, transactions: new Set() };
    }
    // From 4500 on, and for a message that was too big, coming back unchanged would end the same way.
    if (this.wanted && (code >= 4500 || code === 1009)) {
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
    const backoff = Math.min(BACKOFF_MS.first * 2 ** this.attempts, BACKOFF_MS.most);
    this.attempts += 1;
    return Math.random() * Math.max(spread, backoff / 2) + backoff / 2;
  }

  receive(message) {
    const query = this.queries.get(message.id);
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
      case "error":
        if (query) return this.refused(query, message);
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
    for (const query of this.queries.values()) this.send(query.subscribe());
  }

  accepted(query, message) {
    if (!query.begun) query.rows.clear();
    Object.assign(query, {
      key: message.key,
      columns: message.columns,
      warnings: message.warnings,
      position: message.position,
      epoch: this.epoch,
    });
    this.on.subscribed(query);
  }

  /** A frame of a transaction: for one query that catches up, or for every live one. */
  transaction(tx) {
    if (!tx.id) this.position = tx.position;
    const queries = tx.id ? [this.queries.get(tx.id)] : [...this.queries.values()].filter((q) => q.live);
    for (const query of queries) {
      if (!query) continue;
      const changes = tx.changes.filter((change) => change.id === query.id);
      const meanings = changes.map((change) => query.apply(change));
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
    query.advance(message.position);
    this.on.live(query);
    query.resumed = null;
  }

  refused(query, error) {
    if (error.code === "resume_expired" || error.code === "resume_invalid") {
      // The history that its rows came from is over: what it holds may be wrong, so it begins again.
      query.rows.clear();
      query.begun = false;
      query.position = null;
      query.resumed = null;
      this.on.restarted(query, error);
      return this.send(query.subscribe());
    }
    this.queries.delete(query.id);
    this.on.refused(query, error);
  }

  each(visit) {
    for (const query of this.queries.values()) if (query.live) visit(query);
  }
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
