// The frame: pages by address, the bar, light and dark.

import { apidocs } from "./apidocs.js";
import { get } from "./api.js";
import { compare } from "./compare.js";
import { h, replace } from "./dom.js";
import { count } from "./format.js";
import { clusters, duplicates } from "./groups.js";
import { listen } from "./keys.js";
import { remember } from "./memory.js";
import { overview } from "./overview.js";
import { empty, trouble } from "./parts.js";
import { recipe } from "./recipe.js";
import { address, go, here, note } from "./route.js";
import { sample } from "./sample.js";
import { samples } from "./samples.js";
import { signals } from "./signals.js";
import { sql } from "./sql.js";
import { leaveTrail } from "./trail.js";

// Name in the address -> what draws it, its name in the bar, and the key that leads there.
const PAGES = {
  overview: { draw: overview, word: "Overview", key: "o" },
  signals: { draw: signals, word: "Signals", key: "g" },
  samples: { draw: samples, word: "Samples", key: "s" },
  clusters: { draw: clusters, word: "Clusters", key: "c" },
  duplicates: { draw: duplicates, word: "Duplicates", key: "d" },
  sql: { draw: sql, word: "SQL", key: "q" },
  recipe: { draw: recipe, word: "Recipe", key: "r" },
  compare: { draw: compare, word: "Compare", key: "m" },
  api: { draw: apidocs, word: "API", key: "a" },
  sample: { draw: sample },
};
const TABS = Object.entries(PAGES).filter(([, one]) => one.key);
const SELECTIONS = ["signals", "samples"]; // conditions come along from one to the other
const KEPT = 6; // pages that were left and are kept as they were

const main = document.getElementById("main");
const bar = document.getElementById("bar");
let store = null;
let turn = 0;

// --- pages that were left, as they were: drawn, scrolled, ticked

const left = new Map();
let shown = null; // { entry, place, title, ledger, page }
let entries = 0;

// The entry of the history that is shown; a new one gets a name, and how far from the first it is.
function entryOf() {
  if (history.state?.entry === undefined) {
    entries += 1;
    history.replaceState({ entry: `${performance.timeOrigin}.${entries}`, depth: shown ? shown.depth + 1 : 0 }, "");
  }
  return history.state;
}

function leave() {
  if (!shown?.finished) return;
  left.set(shown.entry, { ...shown, scroll: window.scrollY, focus: document.activeElement });
  if (left.size > KEPT) left.delete(left.keys().next().value);
}

function comeBack(kept) {
  shown = kept;
  left.delete(kept.entry);
  drawBar(kept.ledger, kept.page);
  document.title = kept.title;
  replace(main, kept.place);
  main.setAttribute("data-page", kept.page);
  window.scrollTo(0, kept.scroll);
  if (main.contains(kept.focus)) kept.focus.focus({ preventScroll: true });
}

async function draw() {
  const mine = ++turn;
  leave();
  const { entry, depth } = entryOf();
  if (left.has(entry)) {
    comeBack(left.get(entry));
    return;
  }
  const { page, rest, values } = here();
  // A slow page that is left draws into what nobody sees.
  const place = h("div", { class: "page" }, h("p", { class: "quiet pad late" }, "Loading…"));
  main.removeAttribute("data-page");
  replace(main, place);
  window.scrollTo(0, 0);
  shown = { entry, depth, place, page, finished: false };
  const current = shown;
  try {
    store = await get("/store");
    if (mine !== turn) return;
    const named = values.get("d");
    const found = named ? store.decisions.find((one) => one.ledger === named) : store.decisions[0];
    const ledger = found?.ledger ?? store.decisions[0]?.ledger;
    const known = Object.hasOwn(PAGES, page);
    // The address names the decision, so that it means the same after the next run.
    if (known && found) note({ d: ledger });
    drawBar(ledger, page);
    current.ledger = ledger;
    document.title = current.title = `${PAGES[page]?.word ?? "Sample"} · Curate`;
    place.classList.toggle("no-pictures", found?.images === false);
    if (named && !found) replace(place, empty("No such decision", `${named} is not in this store, or not finished yet.`, h("a", { class: "button", href: "#/overview" }, "The latest decision")));
    else if (!found) replace(place, empty("No decision yet", "This store holds no finished run. Run a recipe with this --store; what is committed appears here.", h("button", { onclick: again }, "Look again")));
    else if (!known) replace(place, empty("No such page", "The bar above leads to those there are."));
    else await PAGES[page].draw(place, { ledger: encodeURIComponent(ledger), rest, values, store: { ...store, embeddings: found.embeddings } });
    current.finished = true;
  } catch (problem) {
    replace(place, trouble(problem, again));
    if (!(problem.status >= 0)) throw problem;
  } finally {
    if (mine === turn) {
      main.setAttribute("data-page", page);
      if (document.activeElement === document.body) main.focus({ preventScroll: true });
    }
  }
}

// Draws the page anew, not as it was left.
function again() {
  if (shown) shown.finished = false;
  draw();
}

// --- the bar

// Conditions come along between pages that select samples.
function tabAddress(name) {
  const { page, values } = here();
  return address(name, name !== page && SELECTIONS.includes(page) && SELECTIONS.includes(name) ? { c: values.get("c") } : {});
}

function drawBar(ledger, page) {
  const choice = h("select", { "aria-label": "Decision" }, store.decisions.map((one) => h("option", { value: one.ledger, selected: one.ledger === ledger, title: `${count(one.rows)} samples, ${count(one.verdicts.keep)} kept` }, `${one.ledger}${one.latest ? " (latest)" : ""}`)));
  choice.addEventListener("change", () => go(page === "sample" ? "samples" : page, { d: choice.value }));
  const tab = ([name, { word, key }]) => h("a", { href: address(name), class: name === page || (page === "sample" && name === "samples") ? "here" : "", "aria-current": name === page ? "page" : null, title: `g ${key}`, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    location.hash = tabAddress(name);
  } }, word);
  replace(bar, h("a", { class: "brand", href: address("overview") }, h("img", { src: "/web/icon.svg", alt: "", width: 22, height: 22 }), "Curate"),
    h("nav", { "aria-label": "Pages" }, TABS.map(tab)),
    h("span", { class: "grow" }), store.writing ? h("span", { class: "writing", title: "What is committed is shown; reload to see more." }, "a run is writing") : null, store.decisions.length ? choice : null,
    h("button", { class: "small", title: "Light or dark (t)", "aria-label": "Light or dark", onclick: turnTheme }, "◐"), h("button", { class: "small", title: "Keys (?)", "aria-label": "Keys", onclick: keys.help }, "?"));
}

function turnTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  remember("theme", dark ? "light" : "dark");
}

const keys = listen(main, {
  tabs: TABS.map(([name, { word, key }]) => ({ name, word, key })),
  open: (name) => { location.hash = tabAddress(name); },
  // Out of a sample: to where it was opened, or to all where it came by its address.
  back: () => (shown?.depth > 0 ? history.back() : go("samples")),
  turnTheme,
});

main.addEventListener("click", (event) => {
  const card = event.target.closest("a.sample");
  if (card) leaveTrail(card);
});
history.scrollRestoration = "manual";
window.addEventListener("hashchange", draw);
// The token of the address stays in a cookie that scripts can't read.
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);
draw();
