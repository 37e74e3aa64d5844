// Numbers as people read them.

const whole = new Intl.NumberFormat("en");

export const count = (value) => whole.format(value);

export const samplesOf = (value) => `${count(value)} ${value === 1 ? "sample" : "samples"}`;

export function short(value) {
  if (value >= 1e9) return `${(value / 1e9).toPrecision(3)} G`;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e5) return `${Math.round(value / 1e3)} k`;
  return count(value);
}

export function share(part, of) {
  if (!of) return "–";
  const percent = (100 * part) / of;
  if (part === 0 || part === of) return `${percent} %`;
  if (percent < 0.1) return "< 0.1 %";
  if (percent > 99.9) return "> 99.9 %";
  return `${percent < 10 ? percent.toFixed(1) : percent.toFixed(percent > 99 ? 1 : 0)} %`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return count(value);
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  return size >= 1000 ? count(Math.round(value)) : String(Number(value.toPrecision(4)));
}

// A change as people write it: +3, −2, ±0.
export const change = (value) => (value === 0 ? "±0" : `${value > 0 ? "+" : "−"}${count(Math.abs(value))}`);

export function verdictWord(verdict) {
  return { keep: "kept", drop: "dropped", quarantine: "quarantined", failed: "failed" }[verdict] ?? verdict;
}

export function conditionWords(condition) {
  const { column, at_least: low, at_most: high, one_of: some, missing } = condition;
  if (missing === true) return `${column} is missing`;
  if (missing === false) return `${column} is there`;
  if (some) return `${column}: ${some.length ? some.join(", ") : "nothing"}`;
  if (low !== undefined && high !== undefined) return `${number(low)} ≤ ${column} ≤ ${number(high)}`;
  return low !== undefined ? `${column} ≥ ${number(low)}` : `${column} ≤ ${number(high)}`;
}
