// The samples that stood around one when it was opened, to step through them.

let samples = [];

export function leaveTrail(card) {
  const cards = card.closest(".grid")?.querySelectorAll("a.sample") ?? [];
  samples = [...cards].map((one) => ({ uid: one.dataset.uid, number: Number(one.dataset.number) }));
}

// Its place among them, and those before and after it; null where it was not opened from a list.
export function trailOf(number) {
  const at = samples.findIndex((one) => one.number === number);
  return at < 0 || samples.length < 2 ? null : { at, of: samples.length, before: samples[at - 1], after: samples[at + 1] };
}
