// One sample: picture, caption, every signal, every vote, its copies, neighbours and cluster.

import { get, post } from "./api.js";
import { h, replace } from "./dom.js";
import { number } from "./format.js";
import { badge, caption, card, empty, grid, picture, table, trouble } from "./parts.js";
import { address, writeConditions } from "./route.js";

const HEAD = new Set(["number", "uid", "key", "caption", "shard", "row", "verdict", "dropped_by", "value", "value_text", "bound", "votes", "url"]);

export async function sample(main, { ledger, rest, store }) {
  const name = rest[0] ?? "";
  let found;
  try {
    found = await get(`/decisions/${ledger}/samples/${encodeURIComponent(name)}`);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    replace(main, empty("No such sample", problem.message));
    return;
  }
  const { sample: about } = found;
  const reason = about.dropped_by ? `by ${about.dropped_by}: ${about.value_text ?? number(about.value)}, the bound is ${about.bound}` : "";
  const near = h("section", { class: "card", hidden: true });
  replace(main,
    h("div", { class: "sample-page" },
      h("div", { class: "big-picture" }, picture(ledger, about, 512)),
      h("div", { class: "facts" },
        h("p", {}, badge(about.verdict), " ", h("span", { dir: "auto" }, reason)),
        h("h1", {}, caption(about.caption, "headline")),
        facts([["uid", about.uid], ["key", about.key], ["shard", about.shard], ["row", about.row], ["url", about.url]]),
        found.others ? h("p", { class: "hint" }, `${found.others} more samples have this uid.`) : null,
        h("p", {}, h("a", { class: "button", href: address("samples", { like: about.uid }) }, "Samples like this"),
          found.clusters.map((one) => h("a", { class: "button", href: address("samples", { c: writeConditions([{ column: `${one.filter}/cluster_id`, at_least: one.cluster_id, at_most: one.cluster_id }]) }) }, `Cluster ${one.cluster_id} of ${one.filter}`))))),
    found.votes.length ? h("section", { class: "card" }, h("h2", {}, "Every filter's vote"), table([
      { name: "", cell: (one) => (one.decided ? "→" : "") },
      { name: "filter", cell: (one) => one.filter },
      { name: "value", cell: (one) => h("span", { dir: "auto" }, one.value) },
      { name: "bound", cell: (one) => one.bound },
      { name: "vote", cell: (one) => h("span", { class: `vote ${one.vote}` }, one.vote + (one.only_tag ? ", only tagged" : "")) },
    ], found.votes)) : null,
    found.originals.length ? h("section", { class: "card" }, h("h2", {}, "Compared with"), found.originals.map((one) => h("div", { class: "pair" },
      card(ledger, about, {}), h("div", { class: "between" }, one.likeness, h("div", { class: "quiet" }, one.filter)), otherCard(ledger, one.sample)))) : null,
    found.copies.length ? h("section", { class: "card" }, h("h2", {}, `Dropped as its copies: ${found.copies.length}`), grid(ledger, found.copies)) : null,
    near,
    h("section", { class: "card" }, h("h2", {}, "Signals"), h("dl", { class: "signals" }, Object.entries(about).filter(([key]) => !HEAD.has(key)).map(([key, value]) =>
      h("div", {}, h("dt", {}, key), h("dd", { dir: "auto" }, Array.isArray(value) ? value.join(", ") || "none" : typeof value === "object" && value !== null ? JSON.stringify(value) : number(value)))))));
  if (!store.embeddings || about.failure) return;
  try {
    const nearest = await post(`/decisions/${ledger}/search`, { like: about.uid, conditions: [], k: 13 });
    const others = nearest.samples.filter((one) => one.number !== about.number).slice(0, 12);
    replace(near, h("h2", {}, "Nearest neighbours"), grid(ledger, others, (one) => ({ value: one.cosine, label: "cosine" })));
  } catch (problem) {
    replace(near, h("h2", {}, "Nearest neighbours"), trouble(problem));
  }
  near.hidden = false;
}

function facts(pairs) {
  return h("dl", { class: "facts-list" }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", { class: "mono" }, String(value)))));
}

// The other sample of a pair is known by its uid; its picture by its number.
function otherCard(ledger, other) {
  const place = h("div", { class: "sample" }, h("div", { class: "frame" }), caption(other.caption));
  get(`/decisions/${ledger}/samples/${encodeURIComponent(other.uid)}`).then((found) => place.replaceWith(card(ledger, found.sample, {})), () => {
    place.firstChild.append(h("span", { class: "nothing" }, "not in this pool"));
  });
  return place;
}
