// A decision at a glance: pool, kept, dropped, failed; the waterfall; sources and concepts.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { count, share, short } from "./format.js";
import { empty, meter, table } from "./parts.js";
import { address, writeConditions } from "./route.js";

const TILES = [["keep", "kept"], ["drop", "dropped"], ["quarantine", "quarantined"], ["failed", "failed"]];

export async function overview(main, { ledger }) {
  const found = await get(`/decisions/${ledger}/overview`);
  if (!found.rows) {
    replace(main, empty("No samples", "This decision was taken over a pool without readable shards; the failures say why."));
  }
  const only = (column, label) => address("samples", { c: writeConditions([{ column, one_of: [label] }]) });
  replace(main,
    h("div", { class: "head" }, h("h1", {}, found.recipe), h("p", { class: "quiet" }, found.description)),
    h("div", { class: "tiles" },
      h("a", { class: "tile", href: address("samples") }, h("b", { title: count(found.rows) }, short(found.rows)), h("span", {}, "samples read")),
      TILES.map(([verdict, word]) => h("a", { class: `tile ${verdict}`, href: only("verdict", verdict) },
        h("b", { title: count(found.verdicts[verdict]) }, short(found.verdicts[verdict])), h("span", {}, `${word}, ${share(found.verdicts[verdict], found.rows)}`)))),
    h("section", { class: "card" }, h("h2", {}, "What each filter took"), waterfall(found, only)),
    h("div", { class: "columns" },
      rates("Concepts", found.concepts, "The recipe has neither a measure of concepts nor clusters."),
      rates("Sources", found.sources, "No source is known.")),
    found.failures.length || found.failed_shards ? failures(found) : null);
}

function waterfall(found, only) {
  const total = found.rows;
  let left = total;
  const rows = [];
  const row = (name, words, stopped, href, alone) => {
    const bar = h("div", { class: "fall" }, h("i", { class: "rest" }), h("i", { class: "gone" }));
    bar.children[0].style.width = `${total ? (100 * (left - stopped)) / total : 0}%`;
    bar.children[1].style.width = `${total ? (100 * stopped) / total : 0}%`;
    left -= stopped;
    rows.push(h("tr", {}, h("th", { scope: "row" }, h("a", { href }, name), h("div", { class: "quiet bound" }, words)), h("td", { class: "wide" }, bar),
      h("td", { class: "numeric" }, count(stopped)), h("td", { class: "numeric quiet", title: "would drop if it were the only filter" }, alone === undefined ? "" : count(alone)), h("td", { class: "numeric" }, count(left))));
  };
  if (found.verdicts.failed) row("failed", "could not be read", found.verdicts.failed, only("verdict", "failed"));
  for (const one of found.filters) row(one.step, one.bound, one.stopped, only("dropped_by", one.step), one.alone);
  return h("div", { class: "scroll" }, h("table", { class: "falls" },
    h("thead", {}, h("tr", {}, h("th", {}, "filter"), h("th", {}, ""), h("th", { class: "numeric" }, "takes"), h("th", { class: "numeric" }, "alone"), h("th", { class: "numeric" }, "left"))),
    h("tbody", {}, rows)));
}

function rates(title, items, nothing) {
  const most = Math.max(1, ...items.map((one) => one.samples));
  const shown = items.slice(0, 20);
  return h("section", { class: "card" }, h("h2", {}, title), items.length ? table([
    { name: title.slice(0, -1).toLowerCase(), cell: (one) => h("span", { dir: "auto", class: "label", title: one.words || one.name }, one.words ? `${one.name}: ${one.words}` : one.name) },
    { name: "", cell: (one) => meter(one.samples, most, "pool") },
    { name: "samples", numeric: true, cell: (one) => count(one.samples) },
    { name: "kept", numeric: true, cell: (one) => share(one.kept, one.samples) },
  ], shown) : h("p", { class: "quiet" }, nothing),
  items.length > shown.length ? h("p", { class: "quiet" }, `and ${items.length - shown.length} more: ask SQL`) : null);
}

function failures(found) {
  return h("section", { class: "card" }, h("h2", {}, "Failures"),
    found.failed_shards ? h("p", {}, `${count(found.failed_shards)} shards could not be read.`) : null,
    table([
      { name: "code", cell: (one) => h("a", { href: address("samples", { c: writeConditions([{ column: "failure", one_of: [one.code] }]) }) }, one.code) },
      { name: "meaning", cell: (one) => one.meaning },
      { name: "samples", numeric: true, cell: (one) => count(one.rows) },
    ], found.failures));
}
