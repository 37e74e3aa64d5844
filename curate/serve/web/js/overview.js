// A decision at a glance: pool, kept, dropped, failed; the waterfall; sources and concepts.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { count, share, short } from "./format.js";
import { empty, meter, table } from "./parts.js";
import { address, inCluster, samplesWith } from "./route.js";

const TILES = [["keep", "kept"], ["drop", "dropped"], ["quarantine", "quarantined"], ["failed", "failed"]];

const only = (column, label) => samplesWith({ column, one_of: [label] });

export async function overview(main, { ledger }) {
  const found = await get(`/decisions/${ledger}/overview`);
  if (!found.rows) {
    replace(main, h("h1", {}, found.recipe), empty("No samples", "This decision was taken over a pool without a sample that could be read."), found.failed_shards ? failures(found) : null);
    return;
  }
  replace(main,
    h("div", { class: "head" }, h("h1", {}, found.recipe), found.description ? h("p", { class: "quiet", dir: "auto" }, found.description) : null),
    h("div", { class: "tiles" },
      h("a", { class: "tile", href: address("samples") }, h("b", { title: count(found.rows) }, short(found.rows)), h("span", {}, "samples read")),
      TILES.map(([verdict, word]) => h("a", { class: `tile ${verdict}`, href: only("verdict", verdict) },
        h("b", { title: count(found.verdicts[verdict]) }, short(found.verdicts[verdict])), h("span", {}, `${word}, ${share(found.verdicts[verdict], found.rows)}`)))),
    h("section", { class: "card" }, h("h2", {}, "What each filter took"), found.filters.length || found.verdicts.failed ? waterfall(found) : h("p", { class: "quiet" }, "The recipe has no filters.")),
    h("div", { class: "columns" },
      rates("Concepts", found.concepts, "The recipe has neither a measure of concepts nor clusters.", (name) => concept(found.concept_column, name), found.concept_column?.endsWith("/cluster_id") ? "cluster " : ""),
      rates("Sources", found.sources, "No source is known.")),
    found.failures.length || found.failed_shards ? failures(found) : null);
}

function waterfall(found) {
  const total = found.rows;
  let left = total;
  const rows = [];
  const row = (name, words, stopped, href, alone) => {
    const bar = h("div", { class: alone === undefined ? "fall unread" : "fall", title: `${share(stopped, left)} of what reaches it` }, h("i", { class: "rest" }), h("i", { class: "gone" }));
    bar.children[0].style.width = `${total ? (100 * (left - stopped)) / total : 0}%`;
    bar.children[1].style.width = `${total ? (100 * stopped) / total : 0}%`;
    left -= stopped;
    rows.push(h("tr", {}, h("th", { scope: "row" }, h("a", { href }, name), h("div", { class: "quiet bound" }, words)), h("td", { class: "wide" }, bar),
      h("td", { class: "numeric" }, count(stopped)), h("td", { class: "numeric quiet", title: "would take if it were the only filter" }, alone === undefined ? "" : count(alone)), h("td", { class: "numeric" }, count(left))));
  };
  if (found.verdicts.failed) row("failed", "could not be read", found.verdicts.failed, only("verdict", "failed"));
  for (const one of found.filters) row(one.step, one.bound, one.stopped, only("dropped_by", one.step), one.alone);
  return h("div", { class: "scroll" }, h("table", { class: "falls" },
    h("thead", {}, h("tr", {}, h("th", {}, "filter"), h("th", {}, ""), h("th", { class: "numeric" }, "takes"), h("th", { class: "numeric" }, "alone"), h("th", { class: "numeric" }, "left"))),
    h("tbody", {}, rows)));
}

const concept = (column, name) => (column.endsWith("/cluster_id") ? inCluster(column.slice(0, -"/cluster_id".length), Number(name)) : only(column, name));

function rates(title, items, nothing, link, before = "") {
  const most = Math.max(1, ...items.map((one) => one.samples));
  const shown = items.slice(0, 20);
  return h("section", { class: "card" }, h("h2", {}, title), items.length ? table([
    { name: title.slice(0, -1).toLowerCase(), cell: (one) => h(link ? "a" : "span", { dir: "auto", href: link?.(one.name) }, before + (one.words ? `${one.name}: ${one.words}` : one.name)) },
    { name: "samples", numeric: true, cell: (one) => count(one.samples) },
    { name: "", title: "kept, of all", cell: (one) => rate(one, most) },
    { name: "kept", numeric: true, cell: (one) => share(one.kept, one.samples) },
  ], shown) : h("p", { class: "quiet" }, nothing),
  items.length > shown.length ? h("p", { class: "quiet" }, `and ${items.length - shown.length} more: ask SQL`) : null);
}

// As long as there are samples, filled as far as they are kept.
function rate({ samples, kept }, most) {
  const bar = meter(kept, samples);
  bar.style.width = `${(100 * samples) / most}%`;
  return bar;
}

function failures(found) {
  return h("section", { class: "card" }, h("h2", {}, "Failures"),
    found.failed_shards ? h("p", {}, `${count(found.failed_shards)} ${found.failed_shards === 1 ? "shard" : "shards"} could not be read.`) : null,
    found.failures.length ? table([
      { name: "code", cell: (one) => h("a", { href: only("failure", one.code) }, one.code) },
      { name: "meaning", cell: (one) => one.meaning },
      { name: "samples", numeric: true, cell: (one) => count(one.rows) },
    ], found.failures) : null);
}
