// The demo's first page: one live query that a person types.

import { cell, element, isNumber, plural, text } from "./show.js";
import { Query, Stream } from "./stream.js";

const EXAMPLES = {
  orders: [
    "status = 'paid' AND amount > 100",
    "express AND status NOT IN ('delivered', 'cancelled')",
    "note IS NOT NULL",
    "amount BETWEEN 20 AND 50 AND status = 'new'",
  ],
  order_items: ["product = 'teapot'", "quantity >= 3", "unit_price > 100 AND quantity > 1"],
  customers: ["city = 'Lisbon'", "vip IS TRUE", "id <= 20"],
};
const SHOWN_ROWS = 100;
const SHOWN_TRANSACTIONS = 40;
const SHOWN_CHANGES = 4; // of one transaction, in the log
const TYPING_MS = 350;
const LEAVING_MS = 900;

const $ = (id) => document.getElementById(id);
const head = document.querySelector("#result thead");
const body = document.querySelector("#result tbody");

let table = "orders";
let shown = null; // the query whose result is on the page
let asked = null; // the one that takes its place once the server accepts it
let queries = 0;
let typing = 0;
const lines = new Map(); // key -> <tr>, the last changed last
const touched = new Map(); // key -> op, since the last frame drawn
const arrivals = []; // [time, changes], of the last seconds
const latencies = [];
let redraw = false; // all of it
let drawing = false;

const stream = new Stream(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?numbers=string`,
  {
    state(name, detail) {
      const words = {
        connecting: () => "connecting",
        connected: () => `live: ${detail.database}`,
        waiting: () => `connection lost, again in ${(detail.delay / 1000).toFixed(1)} s`,
        offline: () => "disconnected by you",
        refused: () => `refused: ${detail}`,
      };
      $("status").textContent = words[name]();
      $("status").dataset.state = name;
      $("toggle").textContent = stream.wanted ? "Disconnect" : "Reconnect";
      if (name === "connected") $("epoch").textContent = $("epoch").title = detail.epoch;
      schedule();
    },
    subscribed(query) {
      if (query === asked) show(query);
    },
    transaction(query, tx, all) {
      if (query !== shown) return;
      // Where the log cannot tell whether a deleted row was in the result, the delete is sent: it may be none of ours.
      const meanings = all.filter((meaning) => meaning.op !== "delete" || meaning.before);
      if (query.live) measure(tx, meanings.length);
      for (const meaning of meanings) note(meaning, query.live);
      if (meanings.length > 0 && (query.live || query.resumed)) log(tx, meanings, query);
      schedule();
    },
    live(query) {
      if (query !== shown) return;
      if (query.resumed) tellResume(query);
      redraw = true;
      schedule();
    },
    progress: schedule,
    refused(query, error) {
      if (query === asked) asked = null;
      if (query === shown) shown = null;
      complain(query.where, error);
    },
    restarted(query, error) {
      tell(`The history was broken (${error.message}): the result starts again.`, true);
      redraw = true;
    },
    failed(error) {
      tell(`${error.code}: ${error.message}`, true);
    },
  },
);

// ---- asking ----

function ask() {
  clearTimeout(typing);
  const where = $("where").value.trim();
  const current = asked ?? shown;
  if (current && current.table === table && current.where === where) return excuse();
  if (asked) stream.remove(asked);
  queries += 1;
  asked = new Query(`q${queries}`, table, where);
  stream.add(asked);
}

/** The server took it: it takes the page. Until then the one before keeps running. */
function show(query) {
  if (shown) stream.remove(shown);
  [shown, asked] = [query, null];
  excuse();
  $("warnings").replaceChildren(...query.warnings.map((text) => element("li", text)));
  $("warnings").hidden = query.warnings.length === 0;
  $("log").replaceChildren();
  arrivals.length = latencies.length = 0;
  const cell = (column) => {
    const th = element("th", column.name, isNumber(column) ? "number" : "");
    th.scope = "col";
    th.title = column.type;
    return th;
  };
  const tr = document.createElement("tr");
  tr.append(...query.columns.map(cell));
  head.replaceChildren(tr);
  redraw = true;
  schedule();
}

function complain(where, error) {
  const text = new TextEncoder().encode(where);
  const decode = (bytes) => new TextDecoder().decode(bytes);
  const offset = Math.min(error.offset ?? text.length, text.length);
  const rest = decode(text.slice(offset));
  const word = /^(\w+|'[^']*'?|\s*\S?)/.exec(rest)[0] || " ";
  $("place").replaceChildren(decode(text.slice(0, offset)), element("mark", word), rest.slice(word.length));
  $("place").hidden = error.offset === undefined;
  $("message").textContent = error.message;
  $("problem").hidden = false;
  $("where").setAttribute("aria-invalid", "true");
}

function excuse() {
  $("problem").hidden = true;
  $("where").removeAttribute("aria-invalid");
}

function choose(name) {
  table = name;
  $("from").textContent = name;
  for (const button of $("tables").children) button.setAttribute("aria-pressed", button.textContent === name);
  const example = (text) => {
    const button = element("button", text);
    button.type = "button";
    button.onclick = () => {
      $("where").value = text;
      ask();
    };
    return button;
  };
  $("examples").replaceChildren(...EXAMPLES[name].map(example));
}

// ---- showing ----

/** Remembers what to draw; nothing flashes while the past is read. */
function note(meaning, live) {
  if (!live) redraw = true;
  else if (meaning.op === "truncate") redraw = true;
  else {
    if (meaning.oldKey && meaning.oldKey !== meaning.key) touched.set(meaning.oldKey, "delete");
    touched.delete(meaning.key); // the last touched is drawn last, so on top
    touched.set(meaning.key, meaning.op);
  }
}

function schedule() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  const rows = shown?.rows ?? new Map();
  if (redraw) {
    redraw = false;
    touched.clear();
    lines.clear();
    const newest = [...rows].slice(-SHOWN_ROWS);
    body.replaceChildren(...newest.map(([key, row]) => line(key, row)).reverse());
  }
  for (const [key, op] of touched) drawRow(key, op, rows.get(key));
  touched.clear();
  while (lines.size > SHOWN_ROWS) {
    const [key, oldest] = lines.entries().next().value;
    lines.delete(key);
    oldest.remove();
  }
  $("rows").textContent = rows.size.toLocaleString();
  $("shown").textContent = rows.size > SHOWN_ROWS ? `the ${SHOWN_ROWS} last changed of ${rows.size}` : "";
  $("empty").hidden = rows.size > 0;
  $("position").textContent = shown?.position ?? stream.position ?? "–";
}

function drawRow(key, op, row) {
  const before = lines.get(key);
  if (op !== "delete" && row) {
    before?.remove();
    lines.delete(key);
    const tr = line(key, row);
    tr.className = op;
    return body.prepend(tr);
  }
  if (!before) return;
  lines.delete(key);
  before.className = "leave";
  setTimeout(() => before.remove(), LEAVING_MS);
}

function line(key, row) {
  const tr = document.createElement("tr");
  tr.append(...shown.columns.map((column) => cell(column, row[column.name])));
  lines.set(key, tr);
  return tr;
}

function log(tx, meanings, query) {
  const li = document.createElement("li");
  const resumed = query.live ? "" : " · while away";
  li.append(element("p", `${tx.position} · xid ${tx.xid} · ${plural(meanings.length, "change")}${resumed}`, "head"));
  for (const meaning of meanings.slice(0, SHOWN_CHANGES)) li.append(change(meaning, query));
  if (meanings.length > SHOWN_CHANGES) li.append(element("p", `and ${meanings.length - SHOWN_CHANGES} more`, "head"));
  $("log").prepend(li);
  while ($("log").children.length > SHOWN_TRANSACTIONS) $("log").lastChild.remove();
}

function change(meaning, query) {
  const leaves = meaning.op === "delete" && meaning.cause === "update";
  const p = document.createElement("p");
  const word = leaves ? "leaves" : meaning.op === "insert" && meaning.cause === "update" ? "enters" : meaning.op;
  p.append(element("span", word, `op ${leaves ? "leave" : meaning.op}`));
  if (meaning.key && query.key.length > 0) p.append(element("b", JSON.parse(meaning.key).join(", ")), " ");
  p.append(difference(meaning, query));
  return p;
}

/** What an update changed, else the first values of a new row. */
function difference({ op, row, before }, query) {
  if (!row) return "";
  const show = (column, values) => text(column, values[column.name]);
  if (op === "update" && before) {
    const changed = query.columns.filter((column) => before[column.name] !== row[column.name]);
    const timeless = changed.filter((column) => !column.type.startsWith("timestamp"));
    return timeless.map((c) => `${c.name}: ${show(c, before)} → ${show(c, row)}`).join(", ");
  }
  const values = query.columns.filter((column) => !query.key.includes(column.name));
  return values.slice(0, 3).map((column) => show(column, row)).join(" · ");
}

// ---- telling ----

function measure(tx, changes) {
  arrivals.push([Date.now(), changes]);
  if (changes === 0) return;
  latencies.push(Date.now() - Date.parse(tx.ts));
  if (latencies.length > 50) latencies.shift();
}

function drawRates() {
  const since = Date.now() - 5000;
  while (arrivals.length > 0 && arrivals[0][0] < since) arrivals.shift();
  $("rate").textContent = (arrivals.reduce((sum, [, changes]) => sum + changes, 0) / 5).toFixed(1);
  const sorted = [...latencies].sort((a, b) => a - b);
  // The commit's clock has microseconds, ours milliseconds: below one there is nothing to tell.
  const median = sorted[Math.floor(sorted.length / 2)];
  $("latency").textContent = median === undefined ? "–" : median < 1 ? "< 1 ms" : `${median} ms`;
}

function tellResume(query) {
  const { from, since, changes, transactions } = query.resumed;
  const seconds = ((Date.now() - since) / 1000).toFixed(1);
  const came = `${plural(changes, "change")} in ${plural(transactions.size, "transaction")}`;
  const places = `from ${from} to ${query.position}`;
  const verdict = query.faults === 0 ? "all in order, none twice" : `${query.faults} of them twice or out of order`;
  tell(`Resumed after ${seconds} s away: ${came} came, ${places}, ${verdict}.`, query.faults > 0);
}

function tell(words, bad = false) {
  $("notice").textContent = words;
  $("notice").toggleAttribute("data-bad", bad);
  $("notice").hidden = false;
}

// ---- starting ----

for (const name of Object.keys(EXAMPLES)) {
  const button = element("button", name);
  button.type = "button";
  button.onclick = () => {
    choose(name);
    $("where").value = "";
    ask();
  };
  $("tables").append(button);
}
$("query").onsubmit = (event) => {
  event.preventDefault();
  ask();
};
$("where").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(ask, TYPING_MS);
};
$("toggle").onclick = () => (stream.wanted ? stream.disconnect() : stream.connect());
setInterval(drawRates, 500);
choose("orders");
ask();
stream.connect();
