// Samples as a grid: conditions, order, search by text or picture.

import { file, latest, once, post, postBytes } from "./api.js";
import { announce, download, h, replace, settled } from "./dom.js";
import { count } from "./format.js";
import { card, chips, empty, facet, saver, skeleton, trouble } from "./parts.js";
import { note, readConditions, withCondition, writeConditions } from "./route.js";

const PAGE = 60;

export async function samples(main, { ledger, values, store }) {
  const columns = await once(`/decisions/${ledger}/columns`);
  const numeric = columns.filter((one) => one.kind === "number");
  const ticked = ["verdict", "dropped_by", "failure", "language", "image_format"].filter((name) => columns.some((one) => one.name === name && ["category", "text"].includes(one.kind)));
  let conditions = readConditions(values);
  let sort = numeric.some((one) => one.name === values.get("sort")) ? values.get("sort") : "";
  let descending = values.get("desc") === "1";
  let text = values.get("q") ?? "";
  let like = values.get("like") ?? "";
  let image = null;
  let shown = 0;
  let total = 0;

  const ask = latest();
  const top = h("div", { class: "top" });
  const list = h("div", { class: "grid", role: "list" });
  const body = h("div", { class: "results" });
  const side = h("nav", { class: "side", "aria-label": "Conditions" });
  const end = h("div", { class: "end" });
  const matching = h("span", { class: "matching", "aria-live": "polite" });
  replace(main, top, h("div", { class: "two" }, side, body));

  const search = h("input", { type: "search", id: "search", placeholder: "Search by text: a red car in the snow", value: text, "aria-label": "Search by text" });
  const form = h("form", { class: "search", role: "search" }, search,
    h("label", { class: "button small", title: "Search by a picture" }, "picture…", h("input", { type: "file", accept: "image/*", class: "unseen", onchange: (event) => {
      image = event.target.files[0] ?? null;
      text = like = "";
      search.value = "";
      load();
    } })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    text = search.value.trim();
    like = "";
    image = null;
    load();
  });
  search.addEventListener("search", () => search.value === "" && text && form.requestSubmit());

  const order = h("select", { "aria-label": "Sort by" }, h("option", { value: "" }, "in the pool's order"), numeric.map((one) => h("option", { value: one.name, selected: one.name === sort }, `by ${one.name}`)));
  const turn = h("button", { class: "small", title: "Turn the order round", onclick: () => {
    descending = !descending;
    load();
  } });
  order.addEventListener("change", () => {
    sort = order.value;
    load();
  });

  function drawTop() {
    turn.textContent = descending ? "highest first" : "lowest first";
    turn.hidden = order.hidden = Boolean(text || like || image);
    if (!sort) turn.hidden = true;
    const searched = text ? `like “${text}”` : like ? `like ${like}` : image ? `like ${image.name}` : "";
    replace(top, form, searched ? h("span", { class: "chip" }, h("span", { dir: "auto" }, searched), h("button", { "aria-label": "Take the search away", onclick: () => {
      text = like = search.value = "";
      image = null;
      load();
    } }, "×")) : null, chips(conditions, (one) => {
      conditions = conditions.filter((other) => other !== one);
      load();
    }, () => {
      conditions = [];
      load();
    }), h("span", { class: "grow" }), matching, order, turn,
    saver(async (format) => {
      try {
        const uids = text || like || image ? [...list.children].map((one) => one.dataset.uid) : null;
        const found = await file(`/decisions/${ledger}/subset`, { conditions, uids, format });
        download(found.name, found.blob);
        announce(`${found.count} samples saved`);
      } catch (problem) {
        body.prepend(trouble(problem));
      }
    }));
    note({ c: writeConditions(conditions), sort, desc: descending && sort ? 1 : "", q: text, like });
  }

  async function page(signal) {
    if (image) return postBytes(`/decisions/${ledger}/search/image?k=${PAGE}`, image, signal);
    if (text || like) return post(`/decisions/${ledger}/search`, { text: text || null, like: like || null, conditions, k: PAGE }, signal);
    return post(`/decisions/${ledger}/samples`, { conditions, sort: sort || null, descending, offset: shown, limit: PAGE }, signal);
  }

  async function load() {
    shown = 0;
    drawTop();
    drawFacets();
    replace(body, skeleton(18));
    list.replaceChildren();
    await more(true);
  }

  async function more(first = false) {
    end.textContent = "";
    let found;
    try {
      found = await ask(page);
    } catch (problem) {
      replace(body, trouble(problem, load));
      return;
    }
    if (!found) return;
    total = found.matching;
    shown += found.samples.length;
    const searched = Boolean(text || like || image);
    for (const one of found.samples) list.append(card(ledger, one, searched ? { value: one.cosine, label: "cosine" } : sort ? { value: one[sort], label: sort } : {}));
    matching.textContent = searched ? `${count(found.samples.length)} nearest` : `${count(total)} samples`;
    announce(matching.textContent);
    if (!list.children.length) replace(body, empty("No samples", "None meets all conditions: take one of them away."));
    else if (first) replace(body, list, end);
    if (!searched && shown < total) watch();
  }

  // The next page is fetched when the end comes into view.
  function watch() {
    end.textContent = `${count(shown)} of ${count(total)}`;
    const seen = new IntersectionObserver((entries) => {
      if (entries.some((one) => one.isIntersecting)) {
        seen.disconnect();
        if (end.isConnected) more();
      }
    }, { rootMargin: "600px" });
    seen.observe(end);
  }

  const drawFacets = settled(30, async () => {
    const found = await Promise.all(ticked.map((column) => post(`/decisions/${ledger}/facets`, { column, conditions, most: 40 }).catch(() => [])));
    replace(side, h("h2", {}, "Conditions"), ticked.map((column, at) => (found[at].length ? facet(column, found[at], conditions.find((one) => one.column === column)?.one_of ?? [], (labels) => {
      conditions = withCondition(conditions, column, labels.length ? { column, one_of: labels } : null);
      load();
    }) : null)), h("p", { class: "quiet" }, "Ranges of numbers are drawn on the page Signals and come along."));
  });

  if (!store.embeddings) search.disabled = form.title = "This store has no embeddings to search in.";
  load();
}
