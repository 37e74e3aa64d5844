// Every signal as a histogram; a range on one filters all others and shows what a cut would do.

import { file, once, post } from "./api.js";
import { announce, download, h, paced, replace, settled, toast } from "./dom.js";
import { facets } from "./facets.js";
import { change, count, samplesOf, share } from "./format.js";
import { histogram } from "./histogram.js";
import { chips, grid, meter, saver, trouble } from "./parts.js";
import { address, note, readConditions, withCondition, writeConditions } from "./route.js";

const FIRST = 12; // histograms shown without being asked for
const AT_ONCE = 20; // that the service counts in one answer
const EXAMPLES = 9;
const CONCEPTS = 6;
const END = "end"; // of all filters
// Columns of numbers that only say where something lies.
const PLACES = new Set(["row", "value", "weight", "sample_offset", "image_offset", "image_bytes", "sample_bytes"]);

export const isRange = (one) => one.at_least !== undefined || one.at_most !== undefined;

export async function signals(main, { ledger, values }) {
  const columns = await once(`/decisions/${ledger}/columns`);
  const numeric = columns.filter((one) => one.kind === "number" && !PLACES.has(one.name));
  if (!numeric.length) {
    replace(main, h("div", { class: "empty" }, h("h2", {}, "No signals"), h("p", { class: "quiet" }, "This decision has no samples with numbers to draw.")));
    return;
  }
  const named = (name) => numeric.find((one) => one.name === name);
  let conditions = readConditions(values);
  let place = values.get("at"); // the filter that a cut takes the place of, or END
  let shown = chosen();
  const drawn = new Map();

  const top = h("div", { class: "top" });
  const matching = h("span", { class: "matching" });
  const plots = h("div", { class: "plots" });
  const panel = h("aside", { class: "panel", "aria-label": "What a cut would do" });
  const ticks = facets({ ledger, columns, read: () => conditions, onchange: (column, labels) => set(withCondition(conditions, column, labels.length ? { column, one_of: labels } : null)) });
  const list = h("ul", {});
  replace(main, top, h("div", { class: "three" }, h("nav", { class: "side", "aria-label": "Signals" }, h("h2", {}, "Signals"), list, h("h2", {}, "Conditions"), ticks.element), plots, panel));

  // What the address asks for; else what filters read, then the rest. Ranges are always seen.
  function chosen() {
    const asked = values.get("s")?.split(",").filter(named) ?? [];
    const ranked = [...numeric].sort((one, other) => other.read_by.length - one.read_by.length).map((one) => one.name);
    const ranged = conditions.filter((one) => isRange(one) && named(one.column)).map((one) => one.column);
    return [...new Set([...(asked.length ? asked : ranked.slice(0, FIRST)), ...ranged])];
  }

  const written = settled(200, () => main.isConnected && note({ c: writeConditions(conditions), s: values.has("s") ? shown.join(",") : "", at: place }));

  function set(next) {
    conditions = next;
    drawTop();
    refresh();
  }

  function drawTop() {
    written();
    replace(top, h("h1", {}, "Signals"), h("span", { class: "grow" }), matching,
      h("a", { class: "button", href: address("samples", { c: writeConditions(conditions) }) }, "Show samples"), saver(save),
      chips(conditions, (one) => set(conditions.filter((other) => other !== one)), () => set([])));
  }

  async function save(format) {
    try {
      const found = await file(`/decisions/${ledger}/subset`, { conditions, format });
      download(found.name, found.blob);
      toast(`${samplesOf(found.count)} saved as ${found.name}`);
    } catch (problem) {
      panel.prepend(trouble(problem));
    }
  }

  function drawList() {
    replace(list, numeric.map((one) => {
      const tick = h("input", { type: "checkbox", checked: shown.includes(one.name) });
      tick.addEventListener("change", () => {
        shown = tick.checked ? [one.name, ...shown] : shown.filter((name) => name !== one.name);
        values.set("s", "");
        drawPlots();
        drawTop();
        refresh();
      });
      const about = `${one.name}${one.meaning ? `: ${one.meaning}` : ""}`;
      return h("li", {}, h("label", { title: about }, tick, h("span", { class: "label" }, one.name), one.read_by.length ? h("span", { class: "dot", title: `read by ${one.read_by.join(", ")}` }) : null));
    }));
  }

  function drawPlots() {
    for (const name of shown) {
      if (!drawn.has(name)) drawn.set(name, histogram({ column: name, about: named(name), onrange: (range) => set(withCondition(conditions, name, isRange(range) ? { column: name, ...range } : null)) }));
    }
    replace(plots, shown.length ? shown.map((name) => drawn.get(name).element) : h("p", { class: "quiet pad" }, "Tick a signal on the left."));
  }

  // One round after the other, however quickly a bound is dragged.
  const refresh = paced(async () => {
    ticks.refresh();
    await Promise.all([histograms(), cut()]);
  });

  async function histograms() {
    try {
      const asked = conditions;
      const pieces = [];
      for (let at = 0; at === 0 || at < shown.length; at += AT_ONCE) {
        pieces.push(await post(`/decisions/${ledger}/histograms`, { columns: shown.slice(at, at + AT_ONCE), conditions: asked }));
      }
      const [found] = pieces;
      replace(matching, h("b", {}, count(found.matching)), ` of ${count(found.total)} samples, ${share(found.matching, found.total)}`);
      for (const one of pieces.flatMap((piece) => piece.histograms)) drawn.get(one.column)?.show(one, range(one.column));
      plots.querySelector(".trouble")?.remove();
    } catch (problem) {
      if (!plots.querySelector(".trouble")) plots.prepend(trouble(problem, refresh));
    }
  }

  function range(column) {
    const found = conditions.find((one) => one.column === column && isRange(one));
    return found ? { at_least: found.at_least ?? undefined, at_most: found.at_most ?? undefined } : {};
  }

  async function cut() {
    const bound = conditions.findLast((one) => isRange(one) && named(one.column));
    if (!bound) {
      replace(panel, h("h2", {}, "What a cut would do"), h("p", { class: "quiet" }, "Draw a range on a histogram, or type a bound: here you see how many samples would pass, which concepts lose most, and the samples nearest to the bound. Nothing is run."),
        h("p", { class: "quiet" }, "Dashed lines are the bounds of the recipe; a click on a filter below its histogram begins there."));
      return;
    }
    const readers = named(bound.column).read_by;
    const step = place === END ? null : readers.includes(place) ? place : (readers[0] ?? null);
    const others = conditions.filter((one) => one !== bound && one.column !== "verdict" && one.column !== "dropped_by");
    try {
      const found = await post(`/decisions/${ledger}/cut`, { bound, step, conditions: others, examples: EXAMPLES });
      drawCut(found, bound, step, readers);
    } catch (problem) {
      replace(panel, trouble(problem, refresh));
    }
  }

  function drawCut(found, bound, step, readers) {
    const choice = h("select", { "aria-label": "Where the cut stands" }, readers.map((name) => h("option", { value: name, selected: name === step }, `in place of ${name}`)), h("option", { value: END, selected: step === null }, "after all filters"));
    choice.addEventListener("change", () => {
      place = choice.value;
      written();
      refresh();
    });
    const focused = panel.contains(document.activeElement) && document.activeElement.matches("select");
    const label = { label: bound.column };
    replace(panel, h("h2", {}, "What this cut would do"), choice,
      h("p", { class: "big" }, h("b", {}, count(found.passing)), ` of ${count(found.reaching)} pass`), meter(found.passing, found.reaching),
      h("p", {}, step ? [h("span", { class: found.passing < found.now ? "less" : "more" }, change(found.passing - found.now)), ` against ${step} as it ran`] : `The recipe keeps ${count(found.now)} of them now.`),
      found.approximate.length ? h("p", { class: "hint" }, `A guess: ${found.approximate.join(", ")} depend on what reaches them; what they never compared counts as kept.`) : null,
      found.concepts.length ? h("div", {}, h("h3", {}, "Concepts that lose most"), h("ul", { class: "losses" }, found.concepts.slice(0, CONCEPTS).map((one) => h("li", { title: `${count(one.before)} before, ${count(one.after)} after` }, h("span", { dir: "auto", class: "label" }, one.concept), meter(one.after, one.before), h("span", { class: "quiet" }, change(one.after - one.before)))))) : null,
      [["Just inside", found.inside], ["Just outside", found.outside]].map(([title, samples]) => [h("h3", {}, title), samples.length ? grid(ledger, samples, (one) => ({ value: one.at, ...label })) : h("p", { class: "quiet" }, "none")]));
    if (focused) choice.focus();
    announce(`${count(found.passing)} of ${count(found.reaching)} samples would pass`);
  }

  drawTop();
  drawList();
  drawPlots();
  await refresh();
}
