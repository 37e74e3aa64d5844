// A console: one SELECT over the views, with the schema beside it.

import { file, once, post } from "./api.js";
import { announce, download, h, replace, s } from "./dom.js";
import { count, number } from "./format.js";
import { table, trouble } from "./parts.js";
import { address, note } from "./route.js";

const EXAMPLES = [
  ["What each filter took", "SELECT dropped_by, verdict, count(*) AS samples\nFROM samples\nGROUP BY ALL ORDER BY samples DESC"],
  ["Kept share by width", "SELECT floor(width / 64) * 64 AS width_from, count(*) AS samples,\n  avg((verdict = 'keep')::INT) AS kept_share\nFROM samples WHERE width IS NOT NULL\nGROUP BY 1 ORDER BY 1"],
  ["Near misses: dropped, and by how little", "SELECT uid, caption, dropped_by, value, bound\nFROM samples\nWHERE verdict = 'drop' AND value IS NOT NULL\nORDER BY value DESC LIMIT 100"],
  ["Which concepts lose most", "SELECT concept, any_value(pool) AS pool, any_value(kept) AS kept, any_value(kept_share) AS kept_share\nFROM concepts\nGROUP BY concept ORDER BY kept_share"],
  ["Failures", "SELECT code, count(*) AS samples, any_value(detail) AS example\nFROM failures GROUP BY code ORDER BY samples DESC"],
  ["When it ran", "FROM runs ORDER BY started DESC"],
];
const PLOTTED = 200;

export async function sql(main, { ledger, values }) {
  const schema = await once(`/decisions/${ledger}/schema`);
  const text = h("textarea", { spellcheck: "false", autocapitalize: "off", autocomplete: "off", rows: 7, "aria-label": "SQL", value: values.get("q") ?? EXAMPLES[0][1] });
  const result = h("div", { class: "results answer" });
  const run = h("button", { class: "strong", title: "Ctrl + Enter", onclick: ask }, "Run");
  const said = h("span", { class: "quiet", "aria-live": "polite" }, "Ctrl + Enter runs");
  let answer = null;
  let view = values.get("view") === "plot" ? "plot" : "table";

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

  const word = (name, title) => h("button", { class: "plain", title, onclick: (event) => {
    event.preventDefault();
    insert(/^[a-z_][a-z0-9_]*$/i.test(name) ? name : `"${name.replaceAll('"', '""')}"`);
  } }, name);
  const tree = h("nav", { class: "side schema", "aria-label": "Schema" }, h("h2", {}, "Views"), Object.entries(schema).map(([name, columns], at) => h("details", { open: at === 0 },
    h("summary", {}, word(name), h("span", { class: "quiet" }, ` ${columns.length}`)),
    h("ul", {}, columns.map((one) => h("li", {}, word(one.name, `${one.meaning}${one.unit ? ` (${one.unit})` : ""}`)))))));
  const views = h("span", { class: "switch" }, ["table", "plot"].map((name) => h("button", { class: "small", onclick: () => {
    view = name;
    note({ view: view === "plot" ? view : "" });
    draw();
  } }, name)));
  const files = h("span", { class: "switch", role: "group", "aria-label": "Download" }, ["csv", "json", "parquet"].map((format) => h("button", { class: "small", title: "At most 10,000 rows", onclick: () => save(format) }, format)));

  replace(main, h("div", { class: "two" }, tree, h("div", {}, h("h1", { class: "unseen" }, "SQL"), text,
    h("div", { class: "top tools" }, run, said, h("span", { class: "grow" }), views, h("span", { class: "quiet" }, "download"), files), result)));

  const examples = () => h("div", { class: "examples" }, h("p", { class: "quiet" }, "One SELECT at a time; nothing can be changed. To begin with:"), EXAMPLES.map(([name, question]) => h("button", { class: "example", onclick: () => {
    text.value = question;
    ask();
  } }, h("strong", {}, name), h("code", {}, question))));

  async function ask() {
    note({ q: text.value });
    run.disabled = true;
    said.textContent = "asking…";
    result.classList.add("waiting");
    try {
      answer = await post(`/decisions/${ledger}/sql`, { sql: text.value });
      said.textContent = `${answer.truncated ? "the first " : ""}${count(answer.rows.length)} ${answer.rows.length === 1 ? "row" : "rows"}, ${answer.seconds.toFixed(2)} s`;
      announce(said.textContent);
      draw();
    } catch (problem) {
      answer = null;
      said.textContent = "";
      replace(result, problemBox(problem));
    }
    result.classList.remove("waiting");
    run.disabled = false;
  }

  // DuckDB points at the place with spaces and a caret: they need letters of one width.
  const problemBox = (problem) => (problem.message.includes("\n") ? h("div", { class: "trouble", role: "alert" }, h("pre", {}, problem.message)) : trouble(problem));

  async function save(format) {
    try {
      const found = await file(`/decisions/${ledger}/sql/download`, { sql: text.value, format });
      download(found.name, found.blob);
    } catch (problem) {
      replace(result, problemBox(problem));
    }
  }

  function draw() {
    [...views.children].forEach((one) => one.classList.toggle("on", one.textContent === view));
    if (!answer) replace(result, examples());
    else if (!answer.rows.length) replace(result, h("p", { class: "quiet pad" }, "no rows"));
    else replace(result, view === "plot" ? plot(answer) : rows(answer));
  }

  draw();
  if (values.get("q")) await ask();
}

function rows({ columns, rows: found }) {
  return table(columns.map((column, at) => ({
    name: column.name,
    title: column.type,
    numeric: /int|float|double|decimal/.test(column.type),
    cell: (row) => cell(column.name, row[at]),
  })), found);
}

function cell(name, value) {
  if (value === null) return h("span", { class: "quiet" }, "null");
  if (name === "uid" && typeof value === "string") return h("a", { class: "mono", href: address("sample", {}, value) }, value);
  if (typeof value === "object") return h("span", { class: "mono", dir: "auto" }, JSON.stringify(value));
  if (typeof value === "number") return number(value);
  return h("span", { dir: "auto" }, String(value));
}

// Bars of a column of numbers, named by the first column of texts, else by another of numbers.
function plot({ columns, rows: found }) {
  const numeric = columns.map((_, at) => at).filter((at) => found.every((row) => row[at] === null || typeof row[at] === "number"));
  const texts = columns.map((_, at) => at).filter((at) => !numeric.includes(at));
  const names = texts.length ? texts : numeric.length > 1 ? [numeric[0]] : [];
  const heights = numeric.filter((at) => !names.includes(at));
  if (!heights.length) return h("p", { class: "quiet pad" }, "A plot needs a column of numbers.");
  const shown = found.slice(0, PLOTTED);
  const name = (row, at) => (names.length ? names.map((one) => String(row[one] ?? "null")).join(", ") : String(at + 1));
  const chart = h("div", {});
  const choice = h("select", { "aria-label": "What the bars show" }, heights.map((at) => h("option", { value: at }, columns[at].name)));
  choice.addEventListener("change", () => draw(Number(choice.value)));
  const draw = (at) => replace(chart, bars(shown.map((row, place) => [name(row, place), row[at]]), `${columns[at].name} by ${names.map((one) => columns[one].name).join(", ") || "row"}`));
  draw(heights[0]);
  return h("div", {}, h("p", { class: "quiet" }, heights.length > 1 ? choice : columns[heights[0]].name, names.length ? ` by ${names.map((at) => columns[at].name).join(", ")}` : "", found.length > shown.length ? `, the first ${shown.length} rows` : ""), chart);
}

function bars(items, label) {
  const [line, left, widest] = [22, 260, 540];
  const least = Math.min(0, ...items.map(([, value]) => value ?? 0));
  const most = Math.max(0, ...items.map(([, value]) => value ?? 0));
  const scale = (value) => (widest * (value - least)) / (most - least || 1);
  const zero = left + scale(0);
  return s("svg", { class: "bars-plot", viewBox: `0 0 900 ${items.length * line}`, role: "img", "aria-label": label }, items.map(([name, value], at) => {
    const end = left + scale(value ?? 0);
    return s("g", { transform: `translate(0 ${at * line})` }, s("title", {}, `${name}: ${number(value)}`),
      s("text", { x: left - 10, y: 15, "text-anchor": "end" }, name.length > 38 ? `${name.slice(0, 37)}…` : name),
      s("rect", { x: Math.min(zero, end), y: 3, height: 16, rx: 2, width: Math.max(1, Math.abs(end - zero)) }),
      s("text", { x: Math.max(zero, end) + 7, y: 15, class: "quiet" }, number(value)));
  }));
}
