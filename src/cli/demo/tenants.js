// The demo's second page: two callers with tokens of their own, each with the same query, side by side.

import { cell, element, plural } from "./show.js";
import { Query, Stream } from "./stream.js";

const TENANTS = ["acme", "globex"];
const SHOWN_MESSAGES = 30;
const LEAVING_MS = 900;
const STATES = {
  connecting: () => "connecting",
  connected: () => "live",
  waiting: ({ delay }) => `again in ${(delay / 1000).toFixed(1)} s`,
  offline: () => "disconnected",
  refused: (reason) => `refused: ${reason}`,
};

/** One tenant's side of the page. */
class Side {
  constructor(tenant) {
    this.tenant = tenant;
    this.tokens = 0;
    this.lines = new Map(); // key -> <tr>
    this.section = document.getElementById("tenant").content.cloneNode(true).firstElementChild;
    this.section.id = tenant;
    this.part(".name").textContent = tenant;
    this.query = new Query(tenant, "support.tickets", "");
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream?numbers=string`;
    this.stream = new Stream(url, this, { token: () => this.token() });
  }

  part(selector) {
    return this.section.querySelector(selector);
  }

  start() {
    this.stream.add(this.query);
    this.stream.connect();
  }

  /** Asks for a token and shows what it says; an application would ask its own server, which knows who is there. */
  async token() {
    const answer = await fetch(`demo/token/${this.tenant}`);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const token = await answer.text();
    this.tokens += 1;
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const times = this.tokens === 1 ? "" : `, replaced ${plural(this.tokens - 1, "time")}`;
    const expires = new Date(claims.exp * 1000).toLocaleTimeString("en-GB");
    const { sub, role, tenant } = claims;
    this.part(".claims").textContent = `token: ${JSON.stringify({ sub, role, tenant })}, good until ${expires}${times}`;
    return token;
  }

  // ---- what the stream reports ----

  state(name, detail) {
    this.part(".state").textContent = STATES[name](detail);
    this.part(".state").dataset.state = name;
  }

  subscribed(query) {
    const row = document.createElement("tr");
    row.append(...query.columns.map((column) => element("th", column.name)));
    this.part("thead").replaceChildren(row);
    this.redraw();
  }

  transaction(query, tx, meanings) {
    if (!query.live) return;
    for (const meaning of meanings) this.draw(meaning);
    for (const change of tx.changes) this.tell(change);
    this.count();
  }

  live() {
    this.redraw();
  }

  progress() {}

  restarted() {
    this.redraw();
  }

  refused(query, error) {
    this.state("refused", `${error.code}: ${error.message}`);
  }

  failed(error) {
    this.state("refused", `${error.code}: ${error.message}`);
  }

  // ---- showing ----

  redraw() {
    this.lines.clear();
    const lines = [...this.query.rows].map(([key, row]) => this.line(key, row));
    this.part("tbody").replaceChildren(...lines.reverse());
    this.count();
  }

  line(key, row) {
    const line = document.createElement("tr");
    line.append(...this.query.columns.map((column) => cell(column, row[column.name])));
    this.lines.set(key, line);
    return line;
  }

  draw({ op, key, oldKey, row }) {
    if (op === "truncate") return this.redraw();
    const before = this.lines.get(oldKey ?? key);
    this.lines.delete(oldKey ?? key);
    if (op === "delete") {
      if (!before) return;
      before.className = "leave";
      setTimeout(() => before.remove(), LEAVING_MS);
      return;
    }
    before?.remove();
    const line = this.line(key, row);
    line.className = op;
    this.part("tbody").prepend(line);
  }

  /** Shows a change as it came. */
  tell(change) {
    const { id, ...rest } = change;
    const line = element("li", "");
    line.append(element("span", change.op, `op ${change.op}`), element("code", JSON.stringify(rest)));
    const messages = this.part(".messages");
    messages.prepend(line);
    while (messages.children.length > SHOWN_MESSAGES) messages.lastChild.remove();
  }

  count() {
    this.part(".rows").textContent = plural(this.query.rows.size, "ticket");
    this.part(".empty").hidden = this.query.rows.size > 0;
  }
}

const sides = TENANTS.map((tenant) => new Side(tenant));
document.getElementById("tenants").append(...sides.map((side) => side.section));
for (const side of sides) side.start();
const policies = await fetch("demo/walcast.toml");
document.getElementById("policies").textContent = await policies.text();
