// Two decisions over one pool: which samples fare differently, why, and how the recipes differ.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { count, samplesOf } from "./format.js";
import { card, empty, meter, skeleton, table, trouble } from "./parts.js";
import { note } from "./route.js";

const MOST_LINES = 2000;

export async function compare(main, { ledger, values, store }) {
  const others = store.decisions.filter((one) => one.ledger !== ledger);
  if (!others.length) {
    replace(main, empty("Nothing to compare with", "This store has one decision: run a changed recipe with the same --store, and both can be compared here."));
    return;
  }
  const chosen = others.some((one) => one.ledger === values.get("with")) ? values.get("with") : others[0].ledger;
  const choice = h("select", { "aria-label": "Other decision" }, others.map((one) => h("option", { value: one.ledger, selected: one.ledger === chosen }, one.ledger)));
  const result = h("div", { class: "results" });
  choice.addEventListener("change", show);
  replace(main, h("div", { class: "top" }, h("h1", {}, "Compare"), h("span", { class: "label", title: ledger }, ledger), h("span", { class: "quiet" }, "with"), choice), result);

  async function show() {
    const other = choice.value;
    note({ with: other });
    replace(result, skeleton(12));
    try {
      const [found, here, there] = await Promise.all([get(`/decisions/${ledger}/compare/${encodeURIComponent(other)}`), get(`/decisions/${ledger}/recipe`), get(`/decisions/${encodeURIComponent(other)}/recipe`)]);
      if (other !== choice.value) return;
      replace(result, h("p", { class: "big" }, h("b", {}, count(found.kept)), " kept here, ", h("b", {}, count(found.other)), " there; ", h("b", {}, count(found.same)), " samples fare the same."),
        h("div", { class: "columns" },
          h("section", { class: "card" }, h("h2", {}, "What changes"), summary(found.changes)),
          h("section", { class: "card" }, h("h2", {}, "The recipes"), difference(here.text, there.text))),
        changes(ledger, found.changes));
    } catch (problem) {
      replace(result, trouble(problem, show));
    }
  }
  await show();
}

function summary(found) {
  if (!found.length) return h("p", { class: "quiet" }, "No sample fares differently.");
  const most = Math.max(...found.map((one) => one.samples));
  return table([
    { name: "here", cell: (one) => one.before },
    { name: "there", cell: (one) => one.after },
    { name: "", cell: (one) => meter(one.samples, most, "pool") },
    { name: "samples", numeric: true, cell: (one) => count(one.samples) },
  ], found);
}

// The lines that differ, with `-` for those that are only here and `+` for those only there.
function difference(here, there) {
  const [one, other] = [here.split("\n"), there.split("\n")];
  const lines = one.length > MOST_LINES || other.length > MOST_LINES ? null : differing(one, other);
  if (lines === null) return h("p", { class: "quiet" }, "The recipes are too long to lay side by side.");
  if (!lines.length) return h("p", { class: "quiet" }, "They are the same.");
  return h("pre", { class: "difference" }, lines.map(([sign, text]) => h("div", { class: sign === "-" ? "less" : sign === "+" ? "more" : "quiet" }, `${sign} ${text}`)));
}

// By the longest common subsequence. A line that both have is shown where what differs stands below it.
function differing(one, other) {
  const longest = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let at = one.length - 1; at >= 0; at -= 1) {
    for (let place = other.length - 1; place >= 0; place -= 1) {
      longest[at][place] = one[at] === other[place] ? longest[at + 1][place + 1] + 1 : Math.max(longest[at + 1][place], longest[at][place + 1]);
    }
  }
  const found = [];
  let [at, place] = [0, 0];
  while (at < one.length || place < other.length) {
    if (at < one.length && place < other.length && one[at] === other[place]) {
      found.push([" ", one[at]]);
      at += 1;
      place += 1;
    } else if (place >= other.length || (at < one.length && longest[at + 1][place] >= longest[at][place + 1])) {
      found.push(["-", one[at]]);
      at += 1;
    } else {
      found.push(["+", other[place]]);
      place += 1;
    }
  }
  return withHeads(found);
}

// The lines that differ, and of the others those that they are indented under.
function withHeads(lines) {
  const depth = (text) => 2 * text.search(/\S|$/) + (text.trimStart().startsWith("- ") ? 1 : 0);
  const shown = new Set();
  lines.forEach(([sign, text], at) => {
    if (sign === " ") return;
    shown.add(at);
    let deepest = depth(text);
    for (let above = at - 1; above >= 0 && deepest > 0; above -= 1) {
      if (depth(lines[above][1]) >= deepest) continue;
      deepest = depth(lines[above][1]);
      if (lines[above][0] === " ") shown.add(above);
    }
  });
  return lines.filter((_, at) => shown.has(at));
}

// The ways in which samples fare differently, each with some of them.
export function changes(ledger, found) {
  if (!found.length) return h("p", { class: "quiet" }, "No sample fares differently.");
  return h("div", { class: "groups" }, found.map((one) => h("section", { class: "card group" },
    h("header", {}, h("h3", {}, `${one.before} → ${one.after}`), h("span", { class: "grow" }), h("span", {}, samplesOf(one.samples))),
    h("div", { class: "grid tight" }, one.examples.map((sample) => card(ledger, sample))))));
}
