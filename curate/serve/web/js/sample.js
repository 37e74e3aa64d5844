// One sample: picture, caption, every signal, every vote, its copies, neighbours and cluster.

import { get, once, post } from "./api.js";
import { h, replace } from "./dom.js";
import { count, number, samplesOf, share } from "./format.js";
import { badge, caption, card, empty, grid, picture, skeleton, table, trouble } from "./parts.js";
import { address, inCluster, sampleAddress, samplesWith } from "./route.js";
import { trailOf } from "./trail.js";

// Shown above, or kept for machines.
const HEAD = new Set(["number", "uid", "key", "caption", "shard", "row", "verdict", "dropped_by", "value", "value_text", "bound", "votes", "url", "failure", "failure_detail"]);
const NEIGHBOURS = 12;

export async function sample(main, { ledger, rest, values, store }) {
  const name = rest[0] ?? "";
  const row = /^\d+$/.test(values.get("n") ?? "") ? `?number=${values.get("n")}` : "";
  let found;
  try {
    found = await get(`/decisions/${ledger}/samples/${encodeURIComponent(name)}${row}`);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    replace(main, empty("No such sample", problem.message, h("a", { class: "button", href: address("samples") }, "All samples")));
    return;
  }
  const columns = await once(`/decisions/${ledger}/columns`);
  const { sample: about } = found;
  const near = h("section", { class: "card near" }, h("h2", {}, "Nearest neighbours"), skeleton(NEIGHBOURS));
  near.hidden = !store.embeddings || Boolean(about.failure);
  replace(main,
    h("div", { class: "sample-page" },
      h("div", { class: "big-picture" }, picture(ledger, about, 512), pager(about)),
      h("div", { class: "facts" },
        h("p", { class: "fate" }, badge(about.verdict), " ", h("span", { dir: "auto" }, reason(about))),
        h("h1", {}, caption(about.caption, "headline")),
        facts(about),
        found.others.length ? h("p", { class: "hint" }, "The same uid, so the same picture and caption: ", found.others.slice(0, 8).map((one, at) => [at ? ", " : "", h("a", { href: sampleAddress({ number: one, uid: about.uid }) }, `sample ${count(one)}`)])) : null,
        h("p", { class: "doors" }, near.hidden ? null : h("a", { class: "button", href: address("samples", { like: about.uid }) }, "Samples like this"),
          found.clusters.map((one) => h("a", { class: "button", href: inCluster(one.filter, one.cluster_id), title: `${samplesOf(one.samples)}, ${share(one.kept, one.samples)} kept` }, `Cluster ${one.cluster_id} of ${one.filter}`))),
        found.votes.length ? h("section", { class: "votes" }, h("h2", {}, "Every filter's vote"), votes(found.votes)) : null)),
    found.originals.length ? h("section", { class: "card" }, h("h2", {}, "Compared with"), h("div", { class: "pairs" }, found.originals.map((one) => pair(ledger, about, one)))) : null,
    found.copies.length ? h("section", { class: "card" }, h("h2", {}, `Dropped as its copies: ${found.copies.length}`), grid(ledger, found.copies),
      h("p", {}, h("a", { href: samplesWith({ column: "duplicate_of", one_of: [about.uid] }) }, "All of them"))) : null,
    near,
    h("section", { class: "card" }, h("h2", {}, "Signals"), signals(about, columns)));
  if (!near.hidden) await neighbours(near, ledger, about);
}

function reason(about) {
  if (about.failure) return about.failure_detail ? `${about.failure}: ${about.failure_detail}` : about.failure;
  if (!about.dropped_by) return "";
  const value = about.value_text ?? (about.value === null ? null : number(about.value));
  return `by ${about.dropped_by}${value === null ? "" : `: ${value}`}${about.bound ? `; to be kept: ${about.bound}` : ""}`;
}

// Steps through the list that the sample was opened from; Esc still leads back to the list.
function pager(about) {
  const trail = trailOf(about.number);
  if (!trail) return null;
  const step = (to, words, rel) => h("a", { class: `button small${to ? "" : " off"}`, rel, href: to ? sampleAddress(to) : null, "aria-disabled": to ? null : "true", title: rel === "prev" ? "←" : "→", onclick: (event) => {
    event.preventDefault();
    if (to) location.replace(sampleAddress(to));
  } }, words);
  return h("nav", { class: "pager", "aria-label": "Samples of the list" }, step(trail.before, "‹ previous", "prev"), h("span", { class: "quiet" }, `${count(trail.at + 1)} of ${count(trail.of)}`), step(trail.after, "next ›", "next"));
}

function facts({ uid, key, shard, row, url }) {
  const link = /^https?:/i.test(url ?? "") ? h("a", { href: url, target: "_blank", rel: "noreferrer noopener" }, url) : url;
  const pairs = [["uid", uid], ["key", key], ["shard", shard], ["row", String(row)], ["url", link]];
  return h("dl", { class: "facts-list" }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value))));
}

function votes(found) {
  return table([
    { name: "filter", cell: (one) => h("span", { class: one.decided ? "decided" : "" }, one.filter) },
    { name: "value", cell: (one) => h("span", { dir: "auto" }, one.value === "inf" ? "none" : one.value) },
    { name: "bound", cell: (one) => h("span", { class: "quiet" }, one.bound) },
    { name: "vote", cell: (one) => h("span", { class: `vote ${one.vote}` }, one.vote + (one.only_tag ? ", only tagged" : "")) },
  ], found);
}

// Side by side with the sample that a filter compared it with, which may be in another pool.
function pair(ledger, about, { filter, likeness, sample: other }) {
  const beside = other.number === undefined ? h("div", { class: "sample" }, h("div", { class: "frame" }, h("span", { class: "nothing" }, "not in this pool")), h("span", { class: "mono caption" }, other.uid)) : card(ledger, other);
  return h("div", { class: "pair" }, card(ledger, about), h("div", { class: "between" }, likeness, h("div", { class: "quiet" }, filter)), beside);
}

function signals(about, columns) {
  const described = new Map(columns.map((one) => [one.name, one]));
  return h("dl", { class: "signals" }, Object.entries(about).filter(([name]) => !HEAD.has(name)).map(([name, value]) => {
    const { meaning, unit } = described.get(name) ?? {};
    const words = Array.isArray(value) ? value.join(", ") || "none" : typeof value === "object" && value !== null ? JSON.stringify(value) : number(value);
    return h("div", { title: meaning }, h("dt", {}, name), h("dd", { dir: "auto", title: unit ? `${words} ${unit}` : words }, words));
  }));
}

async function neighbours(place, ledger, about) {
  const title = h("h2", {}, "Nearest neighbours");
  try {
    const { samples } = await post(`/decisions/${ledger}/search`, { like: about.uid, conditions: [], k: NEIGHBOURS + 1 });
    const others = samples.filter((one) => one.number !== about.number).slice(0, NEIGHBOURS);
    replace(place, title, others.length ? grid(ledger, others, (one) => ({ value: one.cosine, label: "cosine" })) : h("p", { class: "quiet" }, "There is no other sample."));
  } catch (problem) {
    replace(place, title, trouble(problem, () => neighbours(place, ledger, about)));
  }
}
