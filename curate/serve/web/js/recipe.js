// The recipe as it ran: change it, see what it would keep, save it; compare with another decision.

import { get, post } from "./api.js";
import { announce, download, h, replace } from "./dom.js";
import { count, share } from "./format.js";
import { empty, grid, meter, table, trouble } from "./parts.js";
import { note } from "./route.js";

export async function recipe(main, { ledger, store }) {
  const found = await get(`/decisions/${ledger}/recipe`);
  const kept = sessionStorage.getItem(`recipe ${ledger}`);
  const text = h("textarea", { class: "code", spellcheck: "false", rows: 28, "aria-label": "Recipe", value: kept ?? found.text });
  const result = h("div", { class: "results" }, h("p", { class: "quiet" }, "Change a threshold on the left and predict: row filters and fractions are judged again from what is stored. Nothing is measured or written."));
  const run = h("button", { class: "strong", onclick: predict }, "Predict");
  const back = h("button", { onclick: () => {
    text.value = found.text;
    changed();
  } }, "As it ran");
  const save = h("button", { onclick: () => download(`${store.decisions.find((one) => one.ledger === ledger)?.recipe ?? "recipe"}.yaml`, text.value) }, "Save as file");
  const changed = () => {
    const same = text.value === found.text;
    back.disabled = same;
    if (same) sessionStorage.removeItem(`recipe ${ledger}`);
    else sessionStorage.setItem(`recipe ${ledger}`, text.value);
  };
  text.addEventListener("input", changed);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) predict();
  });
  changed();
  replace(main, h("div", { class: "halves" }, h("div", {}, h("div", { class: "top" }, h("h1", {}, "Recipe"), h("span", { class: "grow" }), run, back, save), text), result));

  async function predict() {
    run.disabled = true;
    replace(result, h("p", { class: "quiet" }, "deciding anew…"));
    try {
      const answer = await post(`/decisions/${ledger}/predict`, { text: text.value });
      const change = answer.kept - answer.now;
      replace(result, h("p", { class: "big" }, h("b", {}, count(answer.kept)), " samples would be kept, ", h("span", { class: change < 0 ? "less" : "more" }, `${change >= 0 ? "+" : "−"}${count(Math.abs(change))}`), ` against ${count(answer.now)} now`),
        answer.notes.map((one) => h("p", { class: "hint" }, one)),
        table([
          { name: "filter", cell: (one) => one.step + (one.exact ? "" : " (guessed)") },
          { name: "", cell: (one) => meter(one.passing, one.reaching) },
          { name: "reached by", numeric: true, cell: (one) => count(one.reaching) },
          { name: "takes", numeric: true, cell: (one) => count(one.reaching - one.passing) },
          { name: "passes", numeric: true, cell: (one) => share(one.passing, one.reaching) },
        ], answer.filters), changes(ledger, answer.changes));
      announce(`${count(answer.kept)} samples would be kept`);
    } catch (problem) {
      replace(result, h("div", { class: "trouble", role: "alert" }, h("strong", {}, "This recipe does not work."), h("pre", {}, problem.message)));
    }
    run.disabled = false;
  }
}

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
  replace(main, h("div", { class: "top" }, h("h1", {}, "Compare"), h("span", {}, ledger), h("span", { class: "quiet" }, "with"), choice), result);
  async function show() {
    note({ with: choice.value });
    replace(result, h("p", { class: "quiet" }, "comparing…"));
    try {
      const found = await get(`/decisions/${ledger}/compare/${choice.value}`);
      replace(result, h("p", { class: "big" }, h("b", {}, count(found.kept)), " kept here, ", h("b", {}, count(found.other)), " there; ", count(found.same), " samples fare the same"), changes(ledger, found.changes));
    } catch (problem) {
      replace(result, trouble(problem));
    }
  }
  await show();
}

function changes(ledger, found) {
  if (!found.length) return h("p", { class: "quiet" }, "No sample fares differently.");
  return h("div", { class: "groups" }, found.map((one) => h("section", { class: "card group" },
    h("header", {}, h("h3", {}, `${one.before} → ${one.after}`), h("span", { class: "grow" }), h("span", {}, `${count(one.samples)} samples`)), grid(ledger, one.examples, { side: 160 }))));
}
