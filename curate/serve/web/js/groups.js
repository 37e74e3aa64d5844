// Clusters and groups of copies: montages, sizes, kept shares.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { count, number, share } from "./format.js";
import { card, empty, meter, trouble } from "./parts.js";
import { address, note, writeConditions } from "./route.js";

const PAGE = 24;
const ORDERS = { samples: "largest first", smallest: "smallest first", kept_share: "least kept first", most_kept: "most kept first", density: "densest first" };

async function pages(main, { title, nothing, path, controls = [], draw }) {
  let offset = 0;
  const list = h("div", { class: "groups" });
  const more = h("button", { onclick: () => load() }, "Show more");
  const total = h("span", { class: "matching" });
  replace(main, h("div", { class: "top" }, h("h1", {}, title), h("span", { class: "grow" }), total, controls), list, h("div", { class: "end" }, more));
  async function load() {
    more.disabled = true;
    try {
      const found = await get(path(offset, PAGE));
      const items = found.clusters ?? found.groups;
      offset += items.length;
      total.textContent = count(found.total);
      if (!found.total) replace(main, empty(...nothing));
      list.append(...items.map(draw));
      more.hidden = offset >= found.total;
    } catch (problem) {
      list.append(trouble(problem, load));
    }
    more.disabled = false;
  }
  await load();
}

function montage(ledger, samples) {
  return h("div", { class: "grid tight" }, samples.map((sample) => card(ledger, sample, { side: 160 })));
}

export async function clusters(main, { ledger, values }) {
  let order = values.get("order") in ORDERS ? values.get("order") : "samples";
  const choice = h("select", { "aria-label": "Order" }, Object.entries(ORDERS).map(([key, word]) => h("option", { value: key, selected: key === order }, word)));
  choice.addEventListener("change", () => {
    order = choice.value;
    note({ order });
    show();
  });
  const show = () => pages(main, {
    title: "Clusters",
    nothing: ["No clusters", "No filter of this recipe makes clusters: prune_clusters and drop_near_duplicates do."],
    path: (offset, limit) => `/decisions/${ledger}/clusters?order=${order}&offset=${offset}&limit=${limit}`,
    controls: [choice],
    draw: (one) => h("section", { class: "card group" },
      h("header", {}, h("h3", {}, h("a", { href: address("samples", { c: writeConditions([{ column: `${one.step}/cluster_id`, at_least: one.cluster_id, at_most: one.cluster_id }]) }) }, `Cluster ${one.cluster_id}`)), h("span", { class: "quiet" }, one.step), h("span", { class: "grow" }), h("span", {}, `${count(one.samples)} samples, ${share(one.kept, one.samples)} kept`)),
      meter(one.kept, one.samples), one.mean_distance === null ? null : h("p", { class: "quiet" }, `mean distance to the centroid ${number(one.mean_distance)}`), montage(ledger, one.examples)),
  });
  await show();
}

export async function duplicates(main, { ledger }) {
  await pages(main, {
    title: "Duplicates",
    nothing: ["No duplicates", "No filter of this recipe dropped a sample as a copy of another."],
    path: (offset, limit) => `/decisions/${ledger}/duplicates?offset=${offset}&limit=${limit}`,
    draw: (one) => h("section", { class: "card group" },
      h("header", {}, h("h3", {}, `${count(one.count + 1)} alike`), h("span", { class: "quiet" }, one.step), h("span", { class: "grow" }), h("span", { class: "quiet" }, "the first one was kept for this filter")),
      montage(ledger, one.samples)),
  });
}
