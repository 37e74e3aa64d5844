// The frame: pages by address, the bar, keys, light and dark.

import { apidocs } from "./apidocs.js";
import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { short } from "./format.js";
import { clusters, duplicates } from "./groups.js";
import { overview } from "./overview.js";
import { empty, trouble } from "./parts.js";
import { compare, recipe } from "./recipe.js";
import { address, go, here } from "./route.js";
import { sample } from "./sample.js";
import { samples } from "./samples.js";
import { signals } from "./signals.js";
import { sql } from "./sql.js";

const PAGES = { overview, signals, samples, sample, clusters, duplicates, sql, recipe, compare, api: apidocs };
const TABS = [["overview", "Overview", "o"], ["signals", "Signals", "g"], ["samples", "Samples", "s"], ["clusters", "Clusters", "c"], ["duplicates", "Duplicates", "d"], ["sql", "SQL", "q"], ["recipe", "Recipe", "r"], ["compare", "Compare", "m"], ["api", "API", "a"]];
const KEYS = [["g then a letter", "go to a page: " + TABS.map(([, word, key]) => `${key} ${word}`).join(", ")], ["/", "search"], ["← ↑ → ↓", "from sample to sample; on a bound, move it"], ["Enter", "open the sample"], ["Esc", "back, or close"], ["t", "light or dark"], ["?", "these keys"]];

const main = document.getElementById("main");
const bar = document.getElementById("bar");
let store = null;
let drawn = 0;

function theme(next) {
  if (next) localStorage.setItem("theme", next);
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}

function turnTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  theme(dark ? "light" : "dark");
}

function drawBar(ledger, page) {
  const choice = h("select", { "aria-label": "Decision", title: "Decision" }, store.decisions.map((one) => h("option", { value: one.ledger, selected: one.ledger === ledger }, `${one.ledger}${one.latest ? "  (latest)" : ""}, ${short(one.rows)} samples`)));
  choice.addEventListener("change", () => go(["sample"].includes(page) ? "overview" : page, { d: choice.value }));
  replace(bar, h("a", { class: "brand", href: address("overview") }, h("img", { src: "/web/icon.svg", alt: "", width: 22, height: 22 }), "Curate"),
    h("nav", { "aria-label": "Pages" }, TABS.map(([name, word, key]) => h("a", { href: address(name), class: name === page || (page === "sample" && name === "samples") ? "here" : "", "aria-current": name === page ? "page" : null, title: `g ${key}` }, word))),
    h("span", { class: "grow" }), store.writing ? h("span", { class: "writing", title: "What is committed is shown; reload to see more." }, "a run is writing") : null, store.decisions.length ? choice : null,
    h("button", { class: "small", title: "Light or dark (t)", onclick: turnTheme }, "◐"), h("button", { class: "small", title: "Keys (?)", onclick: help }, "?"));
}

function help() {
  const box = h("dialog", { class: "keys" }, h("h2", {}, "Keys"), h("dl", {}, KEYS.map(([key, words]) => h("div", {}, h("dt", {}, key), h("dd", {}, words)))), h("button", { onclick: () => box.close() }, "Close"));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

async function draw() {
  const mine = ++drawn;
  const { page, rest, values } = here();
  // A slow page that is left draws into what nobody sees.
  const place = h("div", { class: `page ${page}` });
  try {
    store = await get("/store");
    if (mine !== drawn) return;
    const named = values.get("d");
    const ledger = store.decisions.some((one) => one.ledger === named) ? named : store.decisions[0]?.ledger;
    store.embeddings = store.decisions.find((one) => one.ledger === ledger)?.embeddings ?? false;
    drawBar(ledger, page);
    document.title = `${TABS.find(([name]) => name === page)?.[1] ?? "Sample"} · Curate`;
    replace(main, place);
    if (named && named !== ledger) replace(place, empty("No such decision", `${named} is not in this store, or not finished yet.`));
    else if (!ledger) replace(place, empty("No decision yet", "This store holds no finished run. Run a recipe with this --store; what is committed appears here."));
    else if (!(page in PAGES)) replace(place, empty("No such page", "The bar above leads to those there are."));
    else {
      place.append(h("p", { class: "quiet pad" }, "Loading…"));
      await PAGES[page](place, { ledger: encodeURIComponent(ledger), rest, values, store });
    }
  } catch (problem) {
    if (mine === drawn) replace(main, replace(place, trouble(problem, draw)));
    if (!(problem.status >= 0)) throw problem;
  }
  if (mine === drawn) main.setAttribute("data-page", page);
}

// --- keys

let waiting = false;

function move(event) {
  const cards = [...main.querySelectorAll("a.sample")];
  if (!cards.length) return;
  const at = cards.indexOf(document.activeElement);
  const wide = cards.filter((one) => one.offsetTop === cards[0].offsetTop && one.parentElement === cards[0].parentElement).length || 1;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
  const next = cards[at < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, at + step))];
  event.preventDefault();
  next.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (here().page === "sample") history.back();
    return;
  }
  if (typing) return;
  if (waiting) {
    waiting = false;
    const tab = TABS.find(([, , key]) => key === event.key);
    if (tab) go(tab[0]);
    return;
  }
  if (event.key === "g") {
    waiting = true;
    setTimeout(() => { waiting = false; }, 1500);
  } else if (event.key === "/") {
    event.preventDefault();
    const search = document.getElementById("search");
    if (search) search.focus();
    else {
      go("samples");
      setTimeout(() => document.getElementById("search")?.focus(), 600);
    }
  } else if (event.key === "?") help();
  else if (event.key === "t") turnTheme();
  else if (event.key.startsWith("Arrow")) move(event);
});

window.addEventListener("hashchange", draw);
theme();
// The token of the address stays in a cookie that scripts can't read.
if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);
draw();
