// A console: one SELECT over the views, with the schema beside it.

import { file, once, post } from "./api.js";
import { announce, download, h, replace, s } from "./dom.js";
import { count, number } from "./format.js";
import { table, trouble } from "./parts.js";
import { address, note } from "./route.js";

const EXAMPLES = [
  ["What each filter took", "SELECT dropped_by, verdict, count(*) AS samples\nFROM samples\nGROUP BY ALL ORDER BY samples DESC"],
  ["Verdicts by width", "SELECT floor(width / 64) * 64 AS width_from, count(*) AS samples,\n  avg((verdict = 'keep')::INT) AS kept_share\nFROM samples WHERE width IS NOT NULL\nGROUP BY 1 ORDER BY 1"],
  ["Near misses", "SELECT uid, caption, value, bound\nFROM samples\nWHERE verdict = 'drop' AND value IS NOT NULL\nORDER BY value DESC LIMIT 100"],
  ["Failures", "SELECT code, count(*) AS n, any_value(detail) AS example\nFROM failures GROUP BY code ORDER BY n DESC"],
  ["Runs", "FROM runs ORDER BY started DESC"],
];

export async function sql(main, { ledger, values }) {
  const schema = await once(`/decisions/${ledger}/schema`);
  const text = h("textarea", { spellcheck: "false", autocapitalize: "off", rows: 8, "aria-label": "SQL", value: values.get("q") ?? EXAMPLES[0][1] });
  const result = h("div", { class: "results" });
  const run = h("button", { class: "strong", onclick: ask }, "Run");
  const said = h("span", { class: "quiet", "aria-live": "polite" }, "Ctrl + Enter runs");
  let answer = null;
  let view = "table";

  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });

  function insert(word) {
    text.setRangeText(word, text.selectionStart, text.selectionEnd, "end");
    text.focus();
  }

  const tree = h("nav", { class: "side schema", "aria-label": "Schema" }, h("h2", {}, "Views"), Object.entries(schema).map(([name, columns], at) => h("details", { open: at === 0 },
    h("summary", {}, h("button", { class: "plain", onclick: (event) => {
      event.preventDefault();
      insert(name);
    } }, name), h("span", { class: "quiet" }, ` ${columns.length}`)),
    h("ul", {}, columns.map((one) => h("li", {}, h("button", { class: "plain", title: `${one.meaning}${one.unit ? ` (${one.unit})` : ""}`, onclick: () => insert(one.name) }, one.name)))))));
  const examples = h("select", { "aria-label": "Examples" }, h("option", { value: "" }, "examples…"), EXAMPLES.map(([name], at) => h("option", { value: at }, name)));
  examples.addEventListener("change", () => {
    if (examples.value !== "") {
      text.value = EXAMPLES[examples.value][1];
      examples.value = "";
      ask();
    }
  });
  const views = h("span", { class: "switch" }, ["table", "plot"].map((name) => h("button", { class: "small", onclick: () => {
    view = name;
    draw();
  } }, name)));
  const files = h("span", {}, ["csv", "json", "parquet"].map((format) => h("button", { class: "small", onclick: () => save(format) }, format)));

  replace(main, h("div", { class: "two" }, tree, h("div", {}, h("h1", { class: "unseen" }, "SQL"), text,
    h("div", { class: "top" }, run, examples, said, h("span", { class: "grow" }), views, h("span", { class: "quiet" }, "download"), files), result)));

  async function ask() {
    note({ q: text.value });
    run.disabled = true;
    said.textContent = "asking…";
    try {
      answer = await post(`/decisions/${ledger}/sql`, { sql: text.value });
      said.textContent = `${answer.truncated ? "the first " : ""}${count(answer.rows.length)} rows, ${answer.seconds.toFixed(2)} s`;
      announce(said.textContent);
      draw();
    } catch (problem) {
      answer = null;
      said.textContent = "";
      replace(result, trouble(problem));
    }
    run.disabled = false;
  }

  async function save(format) {
    try {
      const found = await file(`/decisions/${ledger}/sql/download`, { sql: text.value, format });
      download(found.name, found.blob);
    } catch (problem) {
      replace(result, trouble(problem));
    }
  }

  function draw() {
    [...views.children].forEach((one) => one.classList.toggle("on", one.textContent === view));
    if (!answer) return;
    replace(result, answer.rows.length ? (view === "plot" ? plot(answer) : grid(answer)) : h("p", { class: "quiet pad" }, "no rows"));
  }

  function grid({ columns, rows }) {
    return table(columns.map((column, at) => ({
      name: column.name,
      title: column.type,
      numeric: /int|float|double|decimal/.test(column.type),
      cell: (row) => cell(column.name, row[at]),
    })), rows);
  }

  draw();
  if (values.get("q")) ask();
}

function cell(name, value) {
  if (value === null) return h("span", { class: "quiet" }, "null");
  if (name === "uid" && typeof value === "string") return h("a", { class: "mono", href: address("sample", {}, value) }, value);
  if (typeof value === "object") return h("span", { class: "mono", dir: "auto" }, JSON.stringify(value));
  if (typeof value === "number") return number(value);
  return h("span", { dir: "auto" }, String(value));
}

// Bars of the first column of numbers, named by the first other one.
function plot({ columns, rows }) {
  const numeric = columns.map((one, at) => (rows.every((row) => row[at] === null || typeof row[at] === "number") ? at : -1)).filter((at) => at >= 0);
  const words = columns.findIndex((_, at) => !numeric.includes(at));
  const x = words >= 0 ? words : numeric.length > 1 ? numeric[0] : -1;
  const y = numeric.find((at) => at !== x);
  if (y === undefined) return h("p", { class: "quiet pad" }, "A plot needs a column of numbers.");
  const shown = rows.slice(0, 100);
  const top = Math.max(1e-12, ...shown.map((row) => Math.abs(row[y] ?? 0)));
  const line = 22;
  const chart = s("svg", { class: "bars-plot", viewBox: `0 0 900 ${shown.length * line}`, role: "img", "aria-label": `${columns[y].name} by ${x >= 0 ? columns[x].name : "row"}` }, shown.map((row, at) => {
    const name = x >= 0 ? String(row[x] ?? "null") : String(at + 1);
    return s("g", { transform: `translate(0 ${at * line})` }, s("title", {}, `${name}: ${number(row[y])}`),
      s("text", { x: 225, y: 15, "text-anchor": "end" }, name.length > 34 ? `${name.slice(0, 33)}…` : name),
      s("rect", { x: 235, y: 3, height: 16, rx: 2, width: (560 * Math.abs(row[y] ?? 0)) / top }),
      s("text", { x: 242 + (560 * Math.abs(row[y] ?? 0)) / top, y: 15, class: "quiet" }, number(row[y])));
  }));
  return h("div", {}, h("p", { class: "quiet" }, `${columns[y].name}${x >= 0 ? ` by ${columns[x].name}` : ""}${rows.length > shown.length ? `, the first ${shown.length} rows` : ""}`), chart);
}
