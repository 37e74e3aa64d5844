// Every signal as a histogram; a range on one filters all others and shows what a cut would do.

import { file, latest, once, post } from "./api.js";
import { announce, download, h, replace, settled } from "./dom.js";
import { count, number, share } from "./format.js";
import { histogram } from "./histogram.js";
import { chips, facet, grid, meter, saver, trouble } from "./parts.js";
import { note, readConditions, withCondition, writeConditions } from "./route.js";

const FIRST = 8; // histograms shown without being asked for

export async function signals(main, { ledger, values }) {
  const columns = await once(`/decisions/${ledger}/columns`);
  const numeric = columns.filter((one) => one.kind === "number" && !["row", "value", "weight", "sample_offset", "image_offset", "image_bytes", "sample_bytes"].includes(one.name));
  const categories = columns.filter((one) => one.kind === "category");
  let conditions = readConditions(values);
  const asked = values.get("s")?.split(",").filter((name) => numeric.some((one) => one.name === name));
  const ranked = [...numeric].sort((one, other) => other.read_by.length - one.read_by.length);
  let shown = asked?.length ? asked : ranked.slice(0, FIRST).map((one) => one.name);
  let active = conditions.at(-1)?.column ?? null;

  const top = h("div", { class: "top" });
  const plots = h("div", { class: "plots" });
  const panel = h("aside", { class: "panel" });
  const list = h("nav", { class: "side", "aria-label": "Signals" });
  replace(main, top, h("div", { class: "three" }, list, plots, panel));

  const drawn = new Map();
  const ask = latest();
  const askCut = latest();

  function condition(column) {
    const found = conditions.find((one) => one.column === column);
    return found ? { at_least: found.at_least, at_most: found.at_most } : {};
  }

  function ranged(column, range, final) {
    const some = range.at_least !== undefined || range.at_most !== undefined;
    conditions = withCondition(conditions, column, some ? { column, ...range } : null);
    active = some ? column : (conditions.at(-1)?.column ?? null);
    drawTop();
    if (final) refresh.now();
    else refresh();
  }

  function drawTop() {
    note({ c: writeConditions(conditions), s: shown.join(",") });
    replace(top, h("h1", {}, "Signals"), chips(conditions, (one) => {
      conditions = conditions.filter((other) => other !== one);
      refresh.now();
      drawTop();
    }, () => {
      conditions = [];
      active = null;
      refresh.now();
      drawTop();
    }), h("span", { class: "grow" }), matching,
    saver(async (format) => {
      try {
        const found = await file(`/decisions/${ledger}/subset`, { conditions, format });
        download(found.name, found.blob);
        announce(`${found.count} samples saved`);
      } catch (problem) {
        panel.prepend(trouble(problem));
      }
    }));
  }
  const matching = h("span", { class: "matching", "aria-live": "polite" });

  function drawList() {
    replace(list, h("h2", {}, "Signals"), h("ul", {}, numeric.map((one) => {
      const tick = h("input", { type: "checkbox", checked: shown.includes(one.name) });
      tick.addEventListener("change", () => {
        shown = tick.checked ? [...shown, one.name] : shown.filter((name) => name !== one.name);
        drawPlots();
        refresh.now();
        drawTop();
      });
      return h("li", {}, h("label", { title: one.meaning }, tick, h("span", { class: "label" }, one.name), one.read_by.length ? h("span", { class: "dot", title: `read by ${one.read_by.join(", ")}` }) : null));
    })), facets);
  }
  const facets = h("div", {});

  function drawPlots() {
    for (const name of shown) {
      if (!drawn.has(name)) {
        const about = numeric.find((one) => one.name === name);
        drawn.set(name, histogram({ column: name, about, onrange: (range, final) => ranged(name, range, final) }));
      }
    }
    replace(plots, shown.map((name) => drawn.get(name).element));
    if (!shown.length) replace(plots, h("p", { class: "quiet pad" }, "Tick a signal on the left."));
  }

  const refresh = settled(60, async () => {
    cutPanel();
    const found = await ask((signal) => post(`/decisions/${ledger}/histograms`, { columns: shown.slice(0, 20), conditions }, signal)).catch((problem) => {
      replace(panel, trouble(problem, refresh.now));
    });
    if (!found) return;
    replace(matching, h("b", {}, count(found.matching)), ` of ${count(found.total)} samples, ${share(found.matching, found.total)}`);
    for (const one of found.histograms) drawn.get(one.column)?.show(one, condition(one.column));
    drawFacets();
  });

  async function drawFacets() {
    const wanted = ["verdict", "dropped_by"].filter((name) => categories.some((one) => one.name === name));
    const found = await Promise.all(wanted.map((column) => post(`/decisions/${ledger}/facets`, { column, conditions, most: 30 }).catch(() => [])));
    replace(facets, wanted.map((column, at) => facet(column, found[at], conditions.find((one) => one.column === column)?.one_of ?? [], (labels) => {
      conditions = withCondition(conditions, column, labels.length ? { column, one_of: labels } : null);
      refresh.now();
      drawTop();
    })));
  }

  let step = null;
  async function cutPanel() {
    const bound = conditions.find((one) => one.column === active && (one.at_least !== undefined || one.at_most !== undefined));
    if (!bound) {
      replace(panel, h("h2", {}, "What a cut would do"), h("p", { class: "quiet" }, "Draw a range on a histogram: here you see how many samples would pass, which concepts lose most, and the samples nearest to the bound. Nothing is run."));
      return;
    }
    const readers = columns.find((one) => one.name === bound.column).read_by;
    if (!readers.includes(step)) step = readers[0] ?? null;
    const others = conditions.filter((one) => one !== bound && !["verdict", "dropped_by"].includes(one.column));
    const found = await askCut((signal) => post(`/decisions/${ledger}/cut`, { bound, step, conditions: others, examples: 8 }, signal)).catch((problem) => {
      replace(panel, trouble(problem));
    });
    if (!found) return;
    const choice = h("select", { "aria-label": "Where the cut stands" }, readers.map((name) => h("option", { value: name, selected: name === step }, `in place of ${name}`)), h("option", { value: "", selected: step === null }, "after all filters"));
    choice.addEventListener("change", () => {
      step = choice.value || null;
      readers.includes(step) || readers.unshift(null);
      cutPanel();
    });
    const change = found.passing - found.now;
    replace(panel, h("h2", {}, "What this cut would do"), h("p", {}, choice),
      h("p", { class: "big" }, h("b", {}, count(found.passing)), ` of ${count(found.reaching)} pass`), meter(found.passing, found.reaching),
      h("p", { class: "quiet" }, step ? `${change >= 0 ? "+" : "−"}${count(Math.abs(change))} against ${step} as it ran` : `the recipe keeps ${count(found.now)} of them now`),
      found.approximate.length ? h("p", { class: "hint" }, `${found.approximate.join(", ")}: as fitted before; a run fits anew.`) : null,
      found.concepts.length ? h("div", {}, h("h3", {}, "Concepts that lose most"), h("ul", { class: "losses" }, found.concepts.map((one) => h("li", {}, h("span", { dir: "auto", class: "label" }, one.concept), meter(one.after, one.before), h("span", { class: "quiet" }, `−${count(one.before - one.after)}`))))) : null,
      h("h3", {}, "Just inside"), found.inside.length ? grid(ledger, found.inside, (one) => ({ value: one.at, label: bound.column })) : h("p", { class: "quiet" }, "none"),
      h("h3", {}, "Just outside"), found.outside.length ? grid(ledger, found.outside, (one) => ({ value: one.at, label: bound.column })) : h("p", { class: "quiet" }, "none"));
    announce(`${number(found.passing)} of ${number(found.reaching)} samples would pass`);
  }

  drawTop();
  drawList();
  drawPlots();
  refresh.now();
}
