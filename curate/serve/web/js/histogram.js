// A histogram that a range can be drawn on, with the pointer or the keyboard.

import { h, replace, s } from "./dom.js";
import { count, number, share } from "./format.js";

const WIDTH = 320;
const HEIGHT = 96;
const GROUPS = 64; // bars drawn; the service counts finer bins
const ENDS = [["at_least", "at least"], ["at_most", "at most"]];

const total = (list) => list.reduce((sum, one) => sum + one, 0);

// The axis of a histogram: bins are drawn equally wide, whatever they span.
function axisOf(edges, whole) {
  const bins = edges.length - 1;
  return {
    step: 1 / Math.max(32, bins),
    // A place on it, 0 to 1, for a value; and back.
    place(value) {
      if (value <= edges[0]) return 0;
      for (let at = 0; at < bins; at += 1) {
        if (value <= edges[at + 1]) {
          const wide = edges[at + 1] - edges[at];
          return (at + (wide > 0 ? (value - edges[at]) / wide : 1)) / bins;
        }
      }
      return 1;
    },
    value(at) {
      const bin = Math.min(bins - 1, Math.max(0, Math.floor(at * bins)));
      const part = Math.min(1, Math.max(0, at * bins - bin));
      const found = edges[bin] + part * (edges[bin + 1] - edges[bin]);
      if (whole) return Math.round(found);
      const step = Math.abs(edges[bin + 1] - edges[bin]) / 4;
      const digits = step > 0 ? Math.max(0, Math.ceil(-Math.log10(step))) : 4;
      return Number(found.toFixed(Math.min(8, digits)));
    },
  };
}

// Bars of several bins each. The outermost bins reach to the least and greatest value.
function barsOf({ edges, counts, whole }) {
  const step = Math.max(1, Math.ceil(counts.length / GROUPS));
  const usual = edges.length > 3 ? edges[2] - edges[1] : Infinity;
  const found = [];
  for (let at = 0; at < counts.length; at += step) {
    const end = Math.min(counts.length, at + step);
    const tail = at === 0 ? edges[1] - edges[0] : end === counts.length ? edges[end] - edges[end - 1] : 0;
    found.push({ from: edges[at], to: edges[end], some: total(counts.slice(at, end)), all: total(whole.slice(at, end)), tail: tail > 2 * usual });
  }
  return found;
}

export function histogram({ column, about, onrange }) {
  let data = null;
  let axis = null;
  let range = {};
  let log = false;
  const bars = s("g", {});
  const veil = s("g", { class: "veil" });
  const marks = s("g", {});
  const handles = s("g", {});
  const ends = h("div", { class: "axis" });
  const said = h("div", { class: "said quiet" });
  const chart = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart", role: "group", "aria-label": `Histogram of ${column}` }, bars, veil, marks, handles);
  const inputs = ENDS.map(([end, words]) => boundInput(end, words));
  const clear = h("button", { class: "small", hidden: true, title: "Take the range away", onclick: () => change({}) }, "clear");
  const scale = h("button", { class: "small", title: "Heights by their logarithm", "aria-pressed": "false", onclick: () => {
    log = !log;
    scale.classList.toggle("on", log);
    scale.setAttribute("aria-pressed", String(log));
    draw();
  } }, "log");
  const box = h("section", { class: "card histogram", dataset: { column } },
    h("header", {}, h("h3", { title: about.meaning ? `${column}: ${about.meaning}` : column }, column), h("span", { class: "quiet unit", title: about.unit }, about.unit), h("span", { class: "grow" }), clear, scale),
    h("div", { class: "plot" }, chart), ends, h("div", { class: "bounds" }, inputs[0], h("span", { class: "quiet" }, "to"), inputs[1]), said);

  function boundInput(end, words) {
    const input = h("input", { type: "number", step: "any", "aria-label": `${column} ${words}`, placeholder: words });
    input.addEventListener("change", () => {
      const typed = input.value === "" ? undefined : Number(input.value);
      change({ ...range, [end]: Number.isFinite(typed) ? typed : undefined });
    });
    input.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!step || !axis) return;
      event.preventDefault();
      const from = input.value === "" ? (end === "at_least" ? 0 : 1) : axis.place(Number(input.value));
      input.value = moved(axis.value, from, step);
      change({ ...range, [end]: Number(input.value) });
    });
    return input;
  }

  // The value some steps along; at least the next whole number where only those count.
  function moved(value, from, steps) {
    const to = value(Math.min(1, Math.max(0, from + steps * axis.step)));
    const now = value(from);
    return to === now && about.type.startsWith("int") ? now + Math.sign(steps) : to;
  }

  function draw() {
    replace(bars);
    box.classList.toggle("none", !axis);
    if (!axis) {
      replace(ends, h("span", {}, "no values"));
      replace(said);
      replace(marks);
      return drawRange();
    }
    const groups = barsOf(data);
    const size = (many) => (log ? Math.log1p(many) : many);
    const top = Math.max(1e-9, ...groups.map((one) => size(one.all)));
    const wide = WIDTH / groups.length;
    const bar = (kind, at, many) => {
      const tall = many ? Math.max(1, (size(many) / top) * (HEIGHT - 4)) : 0;
      return s("rect", { class: kind, x: at * wide, width: wide * 0.92, y: HEIGHT - tall, height: tall });
    };
    groups.forEach((one, at) => bars.append(bar("whole", at, one.all), bar("some", at, one.some),
      s("rect", { class: "catch", x: at * wide, width: wide, y: 0, height: HEIGHT },
        s("title", {}, `${number(one.from)} to ${number(one.to)}: ${count(one.some)} of ${count(one.all)}${one.tail ? " (this bar holds everything further out)" : ""}`))));
    replace(marks, about.cuts.map((cut) => {
      const x = axis.place(cut.value) * WIDTH;
      return s("line", { class: "cut", x1: x, x2: x, y1: 0, y2: HEIGHT }, s("title", {}, cutWords(cut)));
    }));
    const middle = data.edges[Math.floor(data.edges.length / 2)];
    replace(ends, [...new Set([data.edges[0], middle, data.edges.at(-1)].map(number))].map((one) => h("span", {}, one)));
    replace(said, `${count(total(data.counts))} with a value${data.missing ? `, ${count(data.missing)} without` : ""}`, about.cuts.map((cut) => h("button", {
      class: "plain", title: "Begin with the recipe's bound", onclick: () => change({ ...range, [cut.sign === "≥" ? "at_least" : "at_most"]: Number(cut.value.toPrecision(7)) }),
    }, cutWords(cut))));
    drawRange();
  }

  const cutWords = (cut) => `${cut.step} ${cut.sign} ${number(cut.value)}`;

  function drawRange() {
    const ranged = range.at_least !== undefined || range.at_most !== undefined;
    box.classList.toggle("ranged", ranged);
    clear.hidden = !ranged;
    ENDS.forEach(([end], at) => {
      if (inputs[at] !== document.activeElement) inputs[at].value = range[end] ?? "";
    });
    const focused = handles.contains(document.activeElement) ? document.activeElement.dataset.end : null;
    replace(veil);
    replace(handles);
    if (!axis) return;
    for (const [end, words] of ENDS) {
      if (range[end] === undefined) continue;
      const x = axis.place(range[end]) * WIDTH;
      veil.append(s("rect", { x: end === "at_most" ? x : 0, width: end === "at_most" ? WIDTH - x : x, y: 0, height: HEIGHT }));
      const handle = s("g", { class: "handle", tabindex: 0, role: "slider", dataset: { end }, "aria-label": `${column} ${words}`,
        "aria-valuenow": range[end], "aria-valuemin": data.edges[0], "aria-valuemax": data.edges.at(-1) },
      s("rect", { class: "grip", x: x - 7, width: 14, y: 0, height: HEIGHT }), s("rect", { class: "bar", x: x - 1.5, width: 3, y: 0, height: HEIGHT }));
      handle.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -8, PageUp: 8 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        change({ ...range, [end]: moved(axis.value, axis.place(range[end]), step) });
      });
      handles.append(handle);
      if (end === focused) handle.focus();
    }
  }

  function change(next) {
    range = Object.fromEntries(Object.entries(next).filter(([, one]) => one !== undefined));
    if (range.at_least > range.at_most) [range.at_least, range.at_most] = [range.at_most, range.at_least];
    drawRange();
    onrange(range);
  }

  chart.addEventListener("pointerdown", (event) => {
    if (!axis || event.button !== 0) return;
    event.preventDefault();
    const frame = chart.getBoundingClientRect();
    const placed = (one) => Math.min(1, Math.max(0, (one.clientX - frame.left) / frame.width));
    const start = placed(event);
    // Near a bound that is there the bound is taken along; elsewhere a new range begins.
    const near = ENDS.map(([end]) => end).find((end) => range[end] !== undefined && Math.abs(axis.place(range[end]) - start) * frame.width < 10);
    const fixed = near === "at_least" ? range.at_most : near === "at_most" ? range.at_least : undefined;
    let drawn = false;
    chart.setPointerCapture(event.pointerId);
    const move = (next) => {
      const now = placed(next);
      drawn ||= Math.abs(now - start) * frame.width > 3;
      if (!drawn) return;
      if (near) {
        const value = axis.value(now);
        const low = near === "at_least" ? value : fixed;
        const high = near === "at_least" ? fixed : value;
        change({ at_least: low, at_most: high });
      } else {
        const [from, to] = [Math.min(start, now), Math.max(start, now)];
        change({ at_least: from <= 0.005 ? undefined : axis.value(from), at_most: to >= 0.995 ? undefined : axis.value(to) });
      }
    };
    const up = () => {
      chart.removeEventListener("pointermove", move);
      if (!drawn && !near) change({});
    };
    chart.addEventListener("pointermove", move);
    chart.addEventListener("pointerup", up, { once: true });
    chart.addEventListener("pointercancel", up, { once: true });
  });

  return {
    element: box,
    show(found, now) {
      data = found;
      axis = found.counts.length ? axisOf(found.edges, about.type.startsWith("int")) : null;
      range = { ...now };
      chart.setAttribute("aria-label", `Histogram of ${column}: ${share(total(found.counts), total(found.whole))} of the values meet the conditions`);
      draw();
    },
  };
}
