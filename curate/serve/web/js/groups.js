// Clusters and groups of copies: montages, sizes, kept shares.

import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { count, number, samplesOf, share } from "./format.js";
import { card, empty, meter, skeleton, trouble } from "./parts.js";
import { inCluster, note, samplesWith } from "./route.js";

const PAGE = 24;
const ORDERS = { samples: "largest first", smallest: "smallest first", kept_share: "least kept first", most_kept: "most kept first", density: "densest first" };

// A page of groups after the other. `read(offset, limit)` gives { total, items }.
async function pages(place, { read, draw, nothing, counted, className = "" }) {
  let offset = 0;
  const list = h("div", { class: `groups ${className}` });
  const end = h("div", { class: "end" });
  const more = h("button", { onclick: load }, "Show more");
  replace(place, skeleton(16));
  async function load() {
    more.disabled = true;
    try {
      const { total, items } = await read(offset, PAGE);
      if (!offset) replace(place, total ? [list, end] : empty(...nothing));
      offset += items.length;
      counted(total);
      list.append(...items.map(draw));
      replace(end, offset < total ? [h("span", {}, `${count(offset)} of ${count(total)} `), more] : null);
    } catch (problem) {
      replace(offset ? end : place, trouble(problem, load));
    }
    more.disabled = false;
  }
  await load();
}

const montage = (ledger, samples) => h("div", { class: "grid tight" }, samples.map((sample) => card(ledger, sample)));

export async function clusters(main, { ledger, values }) {
  let order = values.get("order") in ORDERS ? values.get("order") : "samples";
  let step = values.get("step") ?? "";
  let steps = [];
  const total = h("span", { class: "matching" });
  const controls = h("span", { class: "switch" });
  const body = h("div", {});
  replace(main, h("div", { class: "top" }, h("h1", {}, "Clusters"), total, h("span", { class: "grow" }), controls), body);

  function select(label, options, chosen, onchange) {
    const found = h("select", { "aria-label": label }, options.map(([value, words]) => h("option", { value, selected: value === chosen }, words)));
    found.addEventListener("change", () => onchange(found.value));
    return found;
  }

  function drawControls() {
    replace(controls,
      steps.length > 1 ? select("Filter", [["", "of every filter"], ...steps.map((name) => [name, `of ${name}`])], step, (chosen) => {
        step = chosen;
        show();
      }) : null,
      select("Order", Object.entries(ORDERS), order, (chosen) => {
        order = chosen;
        show();
      }));
  }

  const draw = (one) => h("section", { class: "card group" },
    h("header", {}, h("h3", {}, h("a", { href: inCluster(one.step, one.cluster_id) }, `Cluster ${one.cluster_id}`)), h("span", { class: "quiet label" }, one.words.length ? one.words.join(", ") : one.step), h("span", { class: "grow" }), h("span", {}, `${samplesOf(one.samples)}, ${share(one.kept, one.samples)} kept`)),
    meter(one.kept, one.samples),
    h("p", { class: "quiet small-text" }, one.words.length ? `${one.step}; ` : "", one.mean_distance === null ? "" : `mean distance to the centroid ${number(one.mean_distance)}`),
    montage(ledger, one.examples));

  async function show() {
    note({ order: order === "samples" ? "" : order, step });
    await pages(body, {
      draw,
      nothing: ["No clusters", "No filter of this recipe makes clusters: prune_clusters and drop_near_duplicates do."],
      counted: (many) => { total.textContent = many ? `${count(many)} of them` : ""; },
      read: async (offset, limit) => {
        const found = await get(`/decisions/${ledger}/clusters?order=${order}&offset=${offset}&limit=${limit}${step ? `&step=${encodeURIComponent(step)}` : ""}`);
        steps = found.steps;
        controls.hidden = !found.total;
        drawControls();
        return { total: found.total, items: found.clusters };
      },
    });
  }
  await show();
}

export async function duplicates(main, { ledger }) {
  const total = h("span", { class: "matching" });
  const body = h("div", {});
  const about = h("span", { class: "quiet", hidden: true }, "The first of each group passed the filter, the others were dropped as its copies.");
  replace(main, h("div", { class: "top" }, h("h1", {}, "Duplicates"), total, h("span", { class: "grow" }), about), body);
  await pages(body, {
    className: "small",
    nothing: ["No duplicates", "No filter of this recipe dropped a sample as a copy of another."],
    counted: (many) => {
      total.textContent = many ? `${count(many)} ${many === 1 ? "group" : "groups"}` : "";
      about.hidden = !many;
    },
    read: async (offset, limit) => {
      const found = await get(`/decisions/${ledger}/duplicates?offset=${offset}&limit=${limit}`);
      return { total: found.total, items: found.groups };
    },
    draw: (one) => h("section", { class: "card group" },
      h("header", {}, h("h3", {}, `${count(one.count + 1)} alike`), h("span", { class: "quiet" }, one.step), h("span", { class: "grow" }),
        one.count + 1 > one.samples.length ? h("a", { href: samplesWith({ column: "duplicate_of", one_of: [one.original] }) }, "all copies") : null),
      montage(ledger, one.samples)),
  });
}
