// The parts that the demo's pages share. Everything from the server is shown as text, never as HTML.

export function cell(column, value) {
  if (value === null || value === undefined) return element("td", "null", "null");
  const td = element("td", text(column, value), isNumber(column) ? "number" : "");
  td.title = String(value);
  return td;
}

export function text(column, value) {
  if (value === null || value === undefined) return "null";
  if (column.type === "boolean") return value ? "yes" : "no";
  if (column.type.startsWith("timestamp")) return new Date(value).toLocaleTimeString("en-GB");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

export function isNumber(column) {
  return /^(smallint|integer|bigint|numeric|real|double)/.test(column.type);
}

export function plural(n, noun) {
  return `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;
}

export function element(name, words, className = "") {
  const made = document.createElement(name);
  made.textContent = words;
  if (className) made.className = className;
  return made;
}
