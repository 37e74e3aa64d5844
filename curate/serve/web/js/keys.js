// What keys do on every page.

import { h } from "./dom.js";
import { here } from "./route.js";

const PATIENCE = 1500; // milliseconds between g and its letter
const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

// tabs: { name, word, key }; open(name) goes to a page, back() out of a sample.
export function listen(main, { tabs, open, back, turnTheme }) {
  let waiting = null;

  function help() {
    const rows = [
      ["g, then a letter", `go to a page: ${tabs.map(({ word, key }) => `${key} ${word}`).join(", ")}`],
      ["/", "search, or go to a uid"],
      ["← ↑ → ↓", "from sample to sample; on a bound, move it"],
      ["Enter", "open the sample"],
      ["← →", "in a sample: the one before, the one after"],
      ["Esc", "back to where the sample was opened"],
      ["Ctrl + Enter", "run the SQL, predict the recipe"],
      ["t", "light or dark"],
      ["?", "these keys"],
    ];
    const box = h("dialog", { class: "keys", "aria-label": "Keys" }, h("h2", {}, "Keys"), h("dl", {}, rows.map(([key, words]) => h("div", {}, h("dt", {}, key), h("dd", {}, words)))), h("button", { onclick: () => box.close() }, "Close"));
    box.addEventListener("close", () => box.remove());
    box.addEventListener("click", (event) => event.target === box && box.close());
    document.body.append(box);
    box.showModal();
  }

  function search() {
    const field = document.getElementById("search");
    if (field) {
      field.focus();
      field.select();
      return;
    }
    open("samples");
    const drawn = new MutationObserver(() => {
      const there = document.getElementById("search");
      if (!there) return;
      drawn.disconnect();
      there.focus();
    });
    drawn.observe(main, { childList: true, subtree: true });
  }

  function move(key) {
    const cards = [...main.querySelectorAll("a.sample")];
    const at = cards.indexOf(document.activeElement);
    const step = key === "ArrowLeft" ? "prev" : key === "ArrowRight" ? "next" : null;
    const link = at < 0 && step && main.querySelector(`a[rel="${step}"]`);
    if (link) {
      link.click();
      return true;
    }
    // Up and down are left to scrolling until a sample is chosen.
    if (!cards.length || (at < 0 && !step)) return false;
    const next = at < 0 ? cards[0] : key === "ArrowLeft" ? cards[at - 1] : key === "ArrowRight" ? cards[at + 1] : below(cards, cards[at], key === "ArrowDown" ? 1 : -1);
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
    return true;
  }

  // The card in the next row, in whichever grid, that lies nearest.
  function below(cards, card, way) {
    const place = (one) => one.getBoundingClientRect();
    const from = place(card);
    const further = cards.filter((one) => (way > 0 ? place(one).top > from.top + 5 : place(one).top < from.top - 5));
    const tops = further.map((one) => place(one).top);
    const row = way > 0 ? Math.min(...tops) : Math.max(...tops);
    const distance = (one) => Math.abs(place(one).left - from.left);
    return further.filter((one) => Math.abs(place(one).top - row) < 5).sort((one, other) => distance(one) - distance(other))[0];
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else if (here().page === "sample") back();
      return;
    }
    if (typing) return;
    if (waiting !== null) {
      clearTimeout(waiting);
      waiting = null;
      const tab = tabs.find(({ key }) => key === event.key);
      if (tab) open(tab.name);
      return;
    }
    if (event.key === "g") waiting = setTimeout(() => { waiting = null; }, PATIENCE);
    else if (event.key === "/") {
      event.preventDefault();
      search();
    } else if (event.key === "?") help();
    else if (event.key === "t") turnTheme();
    else if (ARROWS.includes(event.key) && move(event.key)) event.preventDefault();
  });

  return { help };
}
