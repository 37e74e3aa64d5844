// Pieces that several pages are made of.

import { h, replace } from "./dom.js";
import { conditionWords, count, number, share, verdictWord } from "./format.js";
import { sampleAddress } from "./route.js";

export function picture(ledger, sample, side = 224) {
  const image = h("img", { loading: "lazy", decoding: "async", alt: "", width: side, height: side, src: `/api/decisions/${ledger}/images/${sample.number}?side=${side}&placeholder=true` });
  const frame = h("div", { class: "frame" }, image);
  image.addEventListener("error", () => replace(frame, h("span", { class: "nothing" }, "no picture")));
  return frame;
}

export function badge(verdict, by) {
  return h("span", { class: `badge ${verdict}`, title: by ? `by ${by}` : null }, verdictWord(verdict));
}

// Other people's text: its own direction, never markup.
export function caption(text, className = "caption") {
  return text === null || text === undefined || text === "" ? h("span", { class: `${className} quiet` }, text === "" ? "empty caption" : "no caption") : h("span", { class: className, dir: "auto", title: text.slice(0, 1000) }, text);
}

export function card(ledger, sample, { value, label, side } = {}) {
  return h("a", { class: "sample", href: sampleAddress(sample), dataset: { uid: sample.uid, number: sample.number } },
    picture(ledger, sample, side),
    h("div", { class: "under" },
      h("div", { class: "line" }, badge(sample.verdict, sample.dropped_by), value === undefined ? null : h("span", { class: "value", title: label }, number(value))),
      caption(sample.caption)));
}

export function grid(ledger, samples, options) {
  return h("div", { class: "grid" }, samples.map((sample) => card(ledger, sample, typeof options === "function" ? options(sample) : options)));
}

export function meter(part, of, kind = "keep") {
  const bar = h("span", { class: `meter ${kind}`, role: "img", "aria-label": share(part, of) }, h("i", {}));
  bar.firstChild.style.width = `${of ? (100 * part) / of : 0}%`;
  return bar;
}

export function chips(conditions, onremove, onclear) {
  if (!conditions.length) return h("div", { class: "chips quiet" }, "No conditions: all samples.");
  return h("div", { class: "chips" }, conditions.map((one) => h("span", { class: "chip" }, h("span", { class: "label", dir: "auto", title: conditionWords(one) }, conditionWords(one)),
    h("button", { "aria-label": `Take away: ${conditionWords(one)}`, onclick: () => onremove(one) }, "×"))),
  conditions.length > 1 ? h("button", { class: "small", onclick: onclear }, "clear all") : null);
}

export function skeleton(many = 12, className = "") {
  return h("div", { class: `grid waiting ${className}`, "aria-busy": "true" }, Array.from({ length: many }, () => h("div", { class: "sample" }, h("div", { class: "frame" }))));
}

export function trouble(problem, retry) {
  return h("div", { class: "trouble", role: "alert" }, h("strong", {}, "That did not work. "), h("span", {}, problem.message),
    retry ? h("button", { onclick: retry }, "Try again") : null);
}

export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("h2", {}, title), text ? h("p", { class: "quiet" }, text) : null, ...more);
}

export function table(columns, rows, { caption: title } = {}) {
  return h("div", { class: "scroll" }, h("table", {}, title ? h("caption", {}, title) : null,
    h("thead", {}, h("tr", {}, columns.map((one) => h("th", { class: one.numeric ? "numeric" : "", title: one.title }, one.name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((one) => h("td", { class: one.numeric ? "numeric" : "" }, one.cell(row))))))));
}

// Saves a selection as a file.
export function saver(save) {
  const form = h("select", { "aria-label": "File format" }, h("option", { value: "datacomp" }, "DataComp .npy"), h("option", { value: "uids" }, "list of uids"), h("option", { value: "parquet" }, "Parquet"));
  const button = h("button", { class: "strong", onclick: async () => {
    button.disabled = true;
    await save(form.value);
    button.disabled = false;
  } }, "Save subset");
  return h("span", { class: "saver" }, form, button);
}
