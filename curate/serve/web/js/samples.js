// Samples as a grid: conditions, order, search by text or picture.

import { file, get, latest, once, post, postBytes } from "./api.js";
import { announce, download, h, replace, toast } from "./dom.js";
import { facets } from "./facets.js";
import { count, samplesOf } from "./format.js";
import { recall, remember } from "./memory.js";
import { card, chips, empty, saver, skeleton, trouble } from "./parts.js";
import { address, note, readConditions, sampleAddress, withCondition, writeConditions } from "./route.js";

const PAGE = 60;
const MOST_FOUND = 200; // that a search gives
const SIZES = [["S", 110, 224], ["M", 150, 224], ["L", 260, 448]]; // name, least width, pixels asked for
const POOL = "pool"; // the order that samples have there
const OPENED = ["failure", "language"]; // facets counted without being asked for

export async function samples(main, { ledger, values, store }) {
  const columns = await once(`/decisions/${ledger}/columns`);
  const numeric = columns.filter((one) => one.kind === "number").map((one) => one.name);
  const sortable = (name) => (numeric.includes(name) || name === POOL ? name : null);
  let conditions = readConditions(values);
  let sort = sortable(values.get("sort")) ?? sortable(recall("sort")) ?? POOL;
  let descending = values.has("sort") ? values.get("desc") === "1" : recall("descending") === "1";
  let size = SIZES.find(([name]) => name === recall("size")) ?? SIZES[1];
  // What is searched for: { text }, { like: uid } or { image: File }; null to list all.
  let searched = values.get("q") ? { text: values.get("q") } : values.get("like") ? { like: values.get("like") } : null;
  let shown = 0;
  let total = 0;

  const ask = latest();
  const top = h("div", { class: "top" });
  const list = h("div", { class: "grid cards" });
  const body = h("div", { class: "results" });
  const end = h("div", { class: "end" });
  const matching = h("span", { class: "matching" });
  const ticks = facets({ ledger, columns, opened: OPENED, read: () => conditions, onchange: (column, labels) => {
    conditions = withCondition(conditions, column, labels.length ? { column, one_of: labels } : null);
    load();
  } });
  const ranges = h("a", { class: "button small" }, "Ranges of numbers…");
  replace(main, top, h("div", { class: "two" }, h("nav", { class: "side", "aria-label": "Conditions" }, h("h2", {}, "Conditions"), ranges, ticks.element), body));

  const search = h("input", { type: "search", id: "search", value: searched?.text ?? "", dir: "auto", "aria-label": "Search",
    placeholder: store.embeddings ? "Search: a red car, or a uid" : "Go to a uid or key" });
  const pick = h("input", { type: "file", accept: "image/*", class: "unseen", disabled: !store.embeddings, onchange: () => find(pick.files[0] ? { image: pick.files[0] } : null) });
  const form = h("form", { class: "search", role: "search" }, search,
    store.embeddings ? h("label", { class: "button", title: "Search by a picture; one can be dropped on the page, too" }, "picture…", pick) : null);
  const unsearched = store.embeddings ? null : h("div", { class: "chips quiet" }, "No CLIP measured this pool: there are no embeddings to search by text or picture. A uid or key still finds its sample.");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(search.value.trim());
  });
  search.addEventListener("search", () => search.value === "" && searched?.text && find(null));
  main.addEventListener("dragover", (event) => event.preventDefault());
  main.addEventListener("drop", (event) => {
    event.preventDefault();
    const [dropped] = event.dataTransfer.files;
    if (dropped && store.embeddings) find({ image: dropped });
  });

  const order = h("select", { "aria-label": "Sort by" }, h("option", { value: POOL }, "in the pool's order"), numeric.map((name) => h("option", { value: name, selected: name === sort }, `by ${name}`)));
  const turn = h("button", { title: "Turn the order round", onclick: () => sorted(sort, !descending) });
  order.addEventListener("change", () => sorted(order.value, descending));
  const sizes = h("span", { class: "switch sizes", role: "group", "aria-label": "Size of pictures" }, SIZES.map((one) => h("button", { class: "small", title: `Pictures: ${one[0]}`, onclick: () => {
    size = one;
    remember("size", one[0]);
    drawSize();
  } }, one[0])));

  function sorted(by, downwards) {
    [sort, descending] = [by, downwards];
    remember("sort", sort);
    remember("descending", descending ? "1" : "");
    load();
  }

  // A uid or key leads to its sample, other words to a search.
  async function submit(words) {
    if (!words) return searched && find(null);
    if (!store.embeddings || /^[0-9a-f]{32}$/i.test(words) || /^[0-9]+$/.test(words)) {
      try {
        const { sample } = await get(`/decisions/${ledger}/samples/${encodeURIComponent(words)}`);
        location.hash = sampleAddress(sample);
        return;
      } catch (problem) {
        if (problem.status !== 404 || !store.embeddings) return replace(body, trouble(problem, load));
      }
    }
    find({ text: words });
  }

  function find(what) {
    searched = what;
    if (!what?.text) search.value = "";
    if (!what?.image) pick.value = "";
    load();
  }

  function searchChip() {
    if (!searched) return null;
    const { text, like, image } = searched;
    const shows = text ? h("span", { class: "label", dir: "auto" }, `like “${text}”`) : like ? h("a", { class: "label mono", href: address("sample", {}, like) }, `like ${like}`) : [preview(image), h("span", { class: "label", dir: "auto" }, `like ${image.name}`)];
    return h("span", { class: "chip" }, shows, h("button", { "aria-label": "Take the search away", onclick: () => find(null) }, "×"));
  }

  function preview(image) {
    const place = URL.createObjectURL(image);
    const drawn = h("img", { class: "preview", alt: "", src: place });
    for (const done of ["load", "error"]) drawn.addEventListener(done, () => URL.revokeObjectURL(place));
    return drawn;
  }

  function drawTop() {
    turn.textContent = descending ? "highest first" : "lowest first";
    turn.hidden = Boolean(searched) || sort === POOL;
    order.hidden = Boolean(searched);
    ranges.href = address("signals", { c: writeConditions(conditions) });
    replace(top, form, searchChip(), h("span", { class: "grow" }), matching, order, turn, sizes, saver(save), conditions.length ? chips(conditions, (one) => {
      conditions = conditions.filter((other) => other !== one);
      load();
    }, clear) : null, unsearched);
    note({ c: writeConditions(conditions), sort, desc: descending && sort !== POOL, q: searched?.text, like: searched?.like });
  }

  function clear() {
    conditions = [];
    load();
  }

  function drawSize() {
    main.style.setProperty("--card-width", `${size[1]}px`);
    [...sizes.children].forEach((one) => one.classList.toggle("on", one.textContent === size[0]));
  }

  async function save(format) {
    try {
      const uids = searched ? [...list.children].map((one) => one.dataset.uid) : null;
      const found = await file(`/decisions/${ledger}/subset`, { conditions, uids, format });
      download(found.name, found.blob);
      toast(`${samplesOf(found.count)} saved as ${found.name}`);
    } catch (problem) {
      body.querySelector(".trouble")?.remove();
      body.prepend(trouble(problem));
    }
  }

  async function page(k, signal) {
    if (searched?.image) return postBytes(`/decisions/${ledger}/search/image?k=${k}&conditions=${encodeURIComponent(JSON.stringify(conditions))}`, searched.image, signal);
    if (searched) return post(`/decisions/${ledger}/search`, { ...searched, conditions, k }, signal);
    return post(`/decisions/${ledger}/samples`, { conditions, sort: sort === POOL ? null : sort, descending, offset: shown, limit: PAGE }, signal);
  }

  async function load() {
    shown = 0;
    drawTop();
    ticks.refresh();
    if (list.isConnected) {
      body.classList.add("waiting");
      window.scrollTo(0, 0);
    } else replace(body, skeleton(24, "cards"));
    await more(PAGE);
  }

  async function more(k) {
    const first = shown === 0 || Boolean(searched);
    replace(end);
    let found;
    try {
      found = await ask((signal) => page(k, signal));
    } catch (problem) {
      body.classList.remove("waiting");
      replace(first ? body : end, trouble(problem, first ? load : () => more(k)));
      if (first) replace(matching);
      return;
    }
    if (!found) return;
    body.classList.remove("waiting");
    if (first) replace(list);
    total = found.matching;
    shown = searched ? found.samples.length : shown + found.samples.length;
    const beside = (one) => (searched ? { value: one.cosine, label: "cosine" } : sort !== POOL ? { value: one[sort], label: sort } : {});
    list.append(...found.samples.map((one) => card(ledger, one, { ...beside(one), side: size[2] })));
    matching.textContent = searched ? `${count(shown)} nearest` : samplesOf(total);
    announce(matching.textContent);
    if (!shown) replace(body, empty("No samples", conditions.length ? "None meets all conditions." : "The pool is empty.", conditions.length ? h("button", { onclick: clear }, "Take the conditions away") : null));
    else if (first) replace(body, list, end);
    if (searched && shown === k && k < MOST_FOUND) replace(end, h("button", { onclick: () => more(MOST_FOUND) }, `Show the ${MOST_FOUND} nearest`));
    if (!searched && shown < total) watch();
  }

  // The next page is fetched when the end comes into view.
  function watch() {
    replace(end, `${count(shown)} of ${count(total)}`);
    const seen = new IntersectionObserver((entries) => {
      if (entries.some((one) => one.isIntersecting)) {
        seen.disconnect();
        more(PAGE);
      }
    }, { rootMargin: "800px" });
    seen.observe(end);
  }

  drawSize();
  await load();
}
