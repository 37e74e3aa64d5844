// A histogram that a range can be drawn on, with the pointer or the keyboard.

import { h, s } from "./dom.js";
import { count, number, share } from "./format.js";

const WIDTH = 320;
const HEIGHT = 96;
const GROUPS = 64; // bars drawn; the service counts finer bins

export function histogram({ column, about, onrange, height = HEIGHT }) {
  let data = null;
  let range = {};
  let log = false;
  const bars = s("g", { class: "bars" });
  const veil = s("g", { class: "veil" });
  const handles = s("g", {});
  const axis = h("div", { class: "axis" });
  const said = h("div", { class: "said quiet" });
  const chart = s("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", class: "chart", role: "img" }, bars, veil, handles);
  const low = bound("at least");
  const high = bound("at most");
  const clear = h("button", { class: "small", title: "Take the range away", onclick: () => change({}, true) }, "clear");
  const scale = h("button", { class: "small", title: "Heights by logarithm", onclick: () => { log = !log; scale.classList.toggle("on", log); draw(); } }, "log");
  const box = h("section", { class: "card histogram", dataset: { column } },
    h("header", {}, h("h3", { title: about?.meaning }, column), h("span", { class: "quiet unit" }, about?.unit ?? ""), h("span", { class: "grow" }), scale, clear),
    h("div", { class: "plot", style: { height: `${height + 14}px` } }, chart), axis,
    h("div", { class: "bounds" }, low, h("span", { class: "quiet" }, "to"), high), said);

  function bound(label) {
    const input = h("input", { type: "number", step: "any", "aria-label": `${column} ${label}`, placeholder: label });
    input.addEventListener("change", () => {
      const value = input.value === "" ? undefined : Number(input.value);
      change({ ...range, [input === low ? "at_least" : "at_most"]: Number.isFinite(value) ? value : undefined }, true);
    });
    return input;
  }

  function grouped() {
    const bins = data.counts.length;
    const step = Math.max(1, Math.ceil(bins / GROUPS));
    const found = [];
    for (let at = 0; at < bins; at += step) {
      const end = Math.min(bins, at + step);
      const sum = (list) => list.slice(at, end).reduce((total, one) => total + one, 0);
      found.push({ from: data.edges[at], to: data.edges[end], counts: sum(data.counts), whole: sum(data.whole) });
    }
    return found;
  }

  // A place on the axis, 0 to 1, for a value, and back: bins are drawn equally wide.
  function place(value) {
    const { edges } = data;
    const bins = edges.length - 1;
    if (value <= edges[0]) return 0;
    for (let at = 0; at < bins; at += 1) {
      if (value <= edges[at + 1]) {
        const wide = edges[at + 1] - edges[at];
        return (at + (wide > 0 ? (value - edges[at]) / wide : 1)) / bins;
      }
    }
    return 1;
  }

  function value(at) {
    const { edges } = data;
    const bins = edges.length - 1;
    const bin = Math.min(bins - 1, Math.max(0, Math.floor(at * bins)));
    const part = Math.min(1, Math.max(0, at * bins - bin));
    const found = edges[bin] + part * (edges[bin + 1] - edges[bin]);
    const step = Math.abs(edges[bin + 1] - edges[bin]) / 4;
    const digits = step > 0 ? Math.max(0, Math.ceil(-Math.log10(step))) : 4;
    return Number(found.toFixed(Math.min(8, digits)));
  }

  function draw() {
    bars.replaceChildren();
    veil.replaceChildren();
    handles.replaceChildren();
    if (!data || !data.counts.length) {
      axis.replaceChildren(h("span", { class: "quiet" }, "no values"));
      return;
    }
    const groups = grouped();
    const size = (many) => (log ? Math.log1p(many) : many);
    const top = Math.max(1e-9, ...groups.map((one) => size(one.whole)));
    const wide = WIDTH / groups.length;
    groups.forEach((one, at) => {
      const tall = (many) => (many ? Math.max(1, (size(many) / top) * (height - 4)) : 0);
      const title = s("title", {}, `${number(one.from)} to ${number(one.to)}: ${count(one.counts)} of ${count(one.whole)}`);
      const all = tall(one.whole);
      const some = tall(one.counts);
      bars.append(s("rect", { class: "whole", x: at * wide, width: wide * 0.92, y: height - all, height: all }),
        s("rect", { class: "some", x: at * wide, width: wide * 0.92, y: height - some, height: some }),
        s("rect", { class: "catch", x: at * wide, width: wide, y: 0, height }, title));
    });
    drawRange();
    const middle = data.edges[Math.floor(data.edges.length / 2)];
    axis.replaceChildren(...[data.edges[0], middle, data.edges.at(-1)].map((one) => h("span", {}, number(one))));
    const matching = data.counts.reduce((total, one) => total + one, 0);
    said.textContent = `${count(matching)} with a value${data.missing ? `, ${count(data.missing)} without` : ""}`;
  }

  function drawRange() {
    veil.replaceChildren();
    handles.replaceChildren();
    box.classList.toggle("ranged", range.at_least !== undefined || range.at_most !== undefined);
    if (low !== document.activeElement) low.value = range.at_least ?? "";
    if (high !== document.activeElement) high.value = range.at_most ?? "";
    if (!data?.counts.length) return;
    for (const [name, side] of [["at_least", 0], ["at_most", 1]]) {
      if (range[name] === undefined) continue;
      const x = place(range[name]) * WIDTH;
      veil.append(s("rect", side ? { x, width: WIDTH - x, y: 0, height } : { x: 0, width: x, y: 0, height }));
      const handle = s("rect", { class: "handle", x: x - 2, width: 4, y: 0, height, tabindex: 0, role: "slider",
        "aria-label": `${column} ${side ? "at most" : "at least"}`, "aria-valuenow": range[name] });
      handle.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -8, PageUp: 8 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        const moved = Math.min(1, Math.max(0, place(range[name]) + step / Math.max(32, data.counts.length)));
        change({ ...range, [name]: value(moved) }, true);
        handles.querySelector(`[aria-label="${column} ${side ? "at most" : "at least"}"]`)?.focus();
      });
      handles.append(handle);
    }
  }

  function change(next, final) {
    range = Object.fromEntries(Object.entries(next).filter(([, one]) => one !== undefined));
    if (range.at_least > range.at_most) [range.at_least, range.at_most] = [range.at_most, range.at_least];
    drawRange();
    onrange(range, final);
  }

  chart.addEventListener("pointerdown", (event) => {
    if (!data?.counts.length || event.button !== 0) return;
    event.preventDefault();
    const frame = chart.getBoundingClientRect();
    const at = (moved) => Math.min(1, Math.max(0, (moved.clientX - frame.left) / frame.width));
    const start = at(event);
    // Near a bound that is there the bound is taken along; elsewhere a new range begins.
    const near = ["at_least", "at_most"].find((name) => range[name] !== undefined && Math.abs(place(range[name]) - start) * frame.width < 10);
    let moved = false;
    chart.setPointerCapture(event.pointerId);
    const move = (next) => {
      const now = at(next);
      if (Math.abs(now - start) * frame.width > 3) moved = true;
      if (!moved) return;
      if (near) change({ ...range, [near]: value(now) }, false);
      else {
        const [from, to] = [Math.min(start, now), Math.max(start, now)];
        change({ at_least: from <= 0.005 ? undefined : value(from), at_most: to >= 0.995 ? undefined : value(to) }, false);
      }
    };
    const up = () => {
      chart.removeEventListener("pointermove", move);
      if (moved) change(range, true);
      else if (!near) change({}, true);
    };
    chart.addEventListener("pointermove", move);
    chart.addEventListener("pointerup", up, { once: true });
    chart.addEventListener("pointercancel", up, { once: true });
  });

  return {
    element: box,
    show(found, now) {
      data = found;
      if (now) range = { ...now };
      chart.setAttribute("aria-label", `Histogram of ${column}: ${share(found.counts.reduce((a, b) => a + b, 0), found.whole.reduce((a, b) => a + b, 0))} of the values meet the conditions`);
      draw();
    },
    range: () => range,
  };
}
