// Ticks for columns of texts; a column is counted once it is opened.

import { latest, post } from "./api.js";
import { h, replace } from "./dom.js";
import { count } from "./format.js";

const MOST = 40;
const FIRST = ["verdict", "dropped_by"];
// Names of single samples, and what others say in better words.
const NAMES = new Set(["uid", "key", "caption", "url", "bound", "failure_detail", "value_text", "duplicate_of", "bytes_hash", "pixels_hash"]);

// Columns that can be ticked: the verdict first, votes and shards last.
function tickable(columns, opened) {
  const found = columns.filter((one) => (one.kind === "category" || one.kind === "text") && !NAMES.has(one.name.split("/").at(-1)) && !/_(hash|pdq|phash)$/.test(one.name));
  const rank = ({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : opened.includes(name) ? 2 : name.startsWith("votes.") ? 4 : name === "shard" ? 5 : 3);
  return found.sort((one, other) => rank(one) - rank(other)).map((one) => one.name);
}

// What is ticked: `read()` gives all conditions, `onchange(column, labels)` hears of a tick.
export function facets({ ledger, columns, opened = [], read, onchange }) {
  const boxes = tickable(columns, opened).map((column) => facet(column));

  function facet(column) {
    const list = h("ul", {});
    const mark = h("span", { class: "dot", hidden: true });
    const ask = latest();
    const ticked = () => read().find((one) => one.column === column)?.one_of ?? [];
    const box = h("details", { class: "facet", dataset: { column }, open: FIRST.includes(column) || opened.includes(column) || ticked().length > 0 }, h("summary", { title: column }, h("span", { class: "label" }, column), mark), list);
    box.addEventListener("toggle", () => box.open && load());

    async function load() {
      mark.hidden = !ticked().length;
      if (!box.open) return;
      try {
        const found = await ask((signal) => post(`/decisions/${ledger}/facets`, { column, conditions: read(), most: MOST }, signal));
        if (found) draw(found);
      } catch (problem) {
        // What is wrong with a condition, or the service, is said where the samples stand.
        replace(list, h("li", { class: "quiet" }, problem.message.startsWith(`column '${column}'`) ? problem.message : "not counted"));
      }
    }

    function draw(found) {
      const chosen = ticked();
      const focused = list.contains(document.activeElement) ? document.activeElement.value : null;
      const there = found.filter((one) => one.matching || chosen.includes(one.label));
      const gone = chosen.filter((label) => !there.some((one) => one.label === label)).map((label) => ({ label, matching: 0 }));
      replace(list, [...gone, ...there].map(({ label, matching }) => {
        const tick = h("input", { type: "checkbox", value: label, checked: chosen.includes(label) });
        tick.addEventListener("change", () => onchange(column, tick.checked ? [...ticked(), label] : ticked().filter((one) => one !== label)));
        return h("li", {}, h("label", {}, tick, h("span", { class: "label", dir: "auto", title: label }, label), h("span", { class: "quiet" }, count(matching))));
      }));
      if (!list.children.length) replace(list, h("li", { class: "quiet" }, "nothing"));
      else if (found.length === MOST) list.append(h("li", { class: "quiet" }, `the ${MOST} most frequent`));
      if (focused !== null) [...list.querySelectorAll("input")].find((one) => one.value === focused)?.focus();
    }
    return { box, load };
  }

  return { element: h("div", {}, boxes.map((one) => one.box)), refresh: () => boxes.forEach((one) => one.load()) };
}
