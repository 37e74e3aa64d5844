// The recipe as it ran: change it, see what it would keep, save it.

import { get, post } from "./api.js";
import { announce, download, h, replace } from "./dom.js";
import { change, count, share } from "./format.js";
import { changes } from "./compare.js";
import { meter, table } from "./parts.js";

export async function recipe(main, { ledger, store }) {
  const found = await get(`/decisions/${ledger}/recipe`);
  const draft = draftOf(ledger);
  const text = h("textarea", { class: "code", spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off", "aria-label": "Recipe", value: draft.read() ?? found.text });
  const result = h("div", { class: "results" }, h("p", { class: "quiet" }, "Change a threshold on the left and predict: row filters and fractions are judged again from what is stored. Nothing is measured or written. Ctrl + Enter predicts."));
  const run = h("button", { class: "strong", title: "Ctrl + Enter", onclick: predict }, "Predict");
  const back = h("button", { onclick: () => {
    text.value = found.text;
    changed();
  } }, "As it ran");
  const name = store.decisions.find((one) => one.ledger === ledger)?.recipe ?? "recipe";
  const save = h("button", { onclick: () => download(`${/^name: *([\w-]+)/m.exec(text.value)?.[1] ?? name}.yaml`, text.value) }, "Save as file");

  function changed() {
    const same = text.value === found.text;
    back.disabled = same;
    draft.write(same ? null : text.value);
  }

  text.addEventListener("input", changed);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      predict();
    }
  });
  changed();
  replace(main, h("div", { class: "halves" }, h("div", { class: "writer" }, h("div", { class: "top" }, h("h1", {}, "Recipe"), h("span", { class: "grow" }), run, back, save), text), result));
  // What people change stands under `filters`.
  const lines = text.value.split("\n");
  const at = lines.findIndex((line) => line.startsWith("filters:"));
  if (at > 3) text.scrollTop = (text.scrollHeight / lines.length) * (at - 1);

  async function predict() {
    run.disabled = true;
    result.classList.add("waiting");
    try {
      const answer = await post(`/decisions/${ledger}/predict`, { text: text.value });
      replace(result, h("p", { class: "big" }, h("b", {}, count(answer.kept)), " samples would be kept, ", h("span", { class: answer.kept < answer.now ? "less" : "more" }, change(answer.kept - answer.now)), ` against ${count(answer.now)} now`),
        answer.notes.map((one) => h("p", { class: "hint" }, one)),
        table([
          { name: "filter", cell: (one) => [one.step, one.exact ? "" : h("span", { class: "quiet" }, " a guess")] },
          { name: "", cell: (one) => meter(one.passing, one.reaching) },
          { name: "reached by", numeric: true, cell: (one) => count(one.reaching) },
          { name: "takes", numeric: true, cell: (one) => count(one.reaching - one.passing) },
          { name: "passes", numeric: true, cell: (one) => share(one.passing, one.reaching) },
        ], answer.filters), changes(ledger, answer.changes));
      announce(`${count(answer.kept)} samples would be kept`);
    } catch (problem) {
      replace(result, h("div", { class: "trouble", role: "alert" }, h("strong", {}, "This recipe does not work."), h("pre", {}, linked(problem.message))));
    }
    result.classList.remove("waiting");
    run.disabled = false;
  }

  // A message with its lines as buttons that lead there.
  function linked(message) {
    return message.split(/(\bline \d+)/).map((part) => (/^line \d+$/.test(part) ? h("button", { class: "plain link", onclick: () => goTo(Number(part.slice(5))) }, part) : part));
  }

  function goTo(line) {
    const all = text.value.split("\n");
    const start = all.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    text.focus();
    text.setSelectionRange(start, start + (all[line - 1]?.length ?? 0));
    text.scrollTop = (text.scrollHeight / all.length) * Math.max(0, line - 4);
  }
}

// What was written and not saved, for as long as the tab is open.
function draftOf(ledger) {
  const key = `recipe ${ledger}`;
  return {
    read() {
      try {
        return sessionStorage.getItem(key);
      } catch {
        return null;
      }
    },
    write(text) {
      try {
        if (text === null) sessionStorage.removeItem(key);
        else sessionStorage.setItem(key, text);
      } catch {
        // not kept
      }
    },
  };
}
