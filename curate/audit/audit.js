"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const samples = data.samples;
const memory = "curate-audit:" + data.draw;
const byId = (name) => document.getElementById(name);
const WORDS = { 1: "matches", 0: "does not match", null: "can't tell" };

// uid -> 1 (matches), 0 (does not match) or null (can't tell); order: the samples answered, last at the end.
let answers = new Map();
let order = [];
let at = 0;

function remember() {
  try {
    localStorage.setItem(memory, JSON.stringify({ answers: [...answers], order }));
  } catch {
    byId("forgetful").hidden = false;
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(memory));
    const known = new Set(samples.map((sample) => sample.uid));
    const sound = ([uid, said]) => known.has(uid) && (said === 0 || said === 1 || said === null);
    answers = new Map((kept?.answers ?? []).filter(sound));
    order = (kept?.order ?? []).filter((place) => answers.has(samples[place]?.uid));
  } catch {
    answers = new Map();
    order = [];
  }
  remember();
}

// The first sample from here on without an answer, then from the start; their number where there is none.
function next(from) {
  const open = (place) => !answers.has(samples[place].uid);
  for (let step = 0; step < samples.length; step += 1) {
    const place = (from + step) % samples.length;
    if (open(place)) return place;
  }
  return samples.length;
}

function show() {
  const known = [...answers.values()].filter((said) => said !== null).length;
  const untold = answers.size - known;
  byId("count").textContent = `${known} of ${samples.length}` + (untold ? `, ${untold} open` : "");
  byId("progress").max = samples.length;
  byId("progress").value = answers.size;
  byId("save").disabled = known === 0;
  byId("save").classList.toggle("ready", at >= samples.length && known > 0);
  byId("undo").disabled = byId("back").disabled = order.length === 0;
  byId("ask").hidden = at >= samples.length;
  byId("done").hidden = byId("cards").hidden = at < samples.length;
  byId("legend").hidden = at < samples.length || !byId("reveal").checked;
  if (at < samples.length) showSample(samples[at]);
  else showDone(known, untold);
  showLast();
}

function showSample(sample) {
  const picture = byId("picture");
  picture.hidden = sample.picture === null;
  byId("unreadable").hidden = sample.picture !== null;
  if (sample.picture !== null) picture.src = "data:image/jpeg;base64," + sample.picture;
  const caption = byId("caption");
  const text = sample.caption ?? "";
  caption.textContent = text.trim() === "" ? (sample.caption === null ? "no caption" : "blank caption") : text;
  caption.classList.toggle("none", text.trim() === "");
  caption.classList.toggle("long", text.length > 160);
  caption.scrollTop = 0;
}

function showLast() {
  const place = order.at(-1);
  const last = byId("last");
  last.hidden = !byId("reveal").checked || place === undefined || at >= samples.length;
  if (last.hidden) return;
  const sample = samples[place];
  const said = document.createElement("b");
  said.textContent = WORDS[answers.get(sample.uid)];
  const key = document.createElement("bdi");
  key.textContent = sample.key;
  last.replaceChildren("Before this, you: ", said, `. Curate: ${sample.why}. Key `, key);
}

function showDone(known, untold) {
  const wrong = [...answers.values()].filter((said) => said === 0).length;
  byId("summary").textContent =
    `${known} of ${samples.length} answered: ${known - wrong} match, ${wrong} do not` +
    (untold ? `; ${untold} left open` : "") + ". Save the answers, then give the file to curate audit --answers.";
  byId("again").hidden = untold === 0;
  byId("cards").replaceChildren(...samples.map(card));
}

// A small sample, to look at again and to change.
function card(sample, place) {
  const said = answers.get(sample.uid);
  const revealed = byId("reveal").checked;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "card";
  button.classList.toggle("apart", revealed && said !== null && (said === 1) !== sample.kept);
  if (sample.picture !== null) {
    const image = document.createElement("img");
    image.alt = "";
    image.src = "data:image/jpeg;base64," + sample.picture;
    button.append(image);
  }
  const line = (kind, text) => {
    const span = document.createElement("span");
    span.className = kind;
    span.dir = "auto";
    span.textContent = text;
    button.append(span);
  };
  line("caption", sample.caption ?? "no caption");
  line("mine " + { 1: "yes", 0: "no" }[said], WORDS[said]);
  if (revealed) line("why", sample.why);
  button.addEventListener("click", () => {
    forget(place);
    at = place;
    show();
    scrollTo(0, 0);
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function forget(place) {
  answers.delete(samples[place].uid);
  order = order.filter((other) => other !== place);
  remember();
}

function answer(said) {
  if (at >= samples.length) return;
  answers.set(samples[at].uid, said);
  order.push(at);
  remember();
  at = next(at + 1);
  show();
}

function undo() {
  if (order.length === 0) return;
  at = order.at(-1);
  forget(at);
  show();
}

function askAgain() {
  samples.forEach((sample, place) => {
    if (answers.get(sample.uid) === null) forget(place);
  });
  at = next(0);
  show();
}

function save() {
  const rows = samples.filter((sample) => typeof answers.get(sample.uid) === "number");
  const line = (sample) => `${sample.uid},${answers.get(sample.uid)},${sample.probability}`;
  const lines = ["uid,ok,probability", ...rows.map(line)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = data.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const KEYS = {
  j: () => answer(1), ArrowRight: () => answer(1),
  f: () => answer(0), ArrowLeft: () => answer(0),
  k: () => answer(null), ArrowDown: () => answer(null),
  u: undo, ArrowUp: undo,
};

addEventListener("keydown", (event) => {
  // A key held down is one answer; keys with others belong to the browser, arrows in a long caption to it.
  const reading = document.activeElement === byId("caption") && byId("caption").scrollHeight > byId("caption").clientHeight;
  const arrow = event.key.startsWith("Arrow");
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (arrow && (reading || at >= samples.length)) return;
  const act = KEYS[arrow ? event.key : event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});
byId("yes").addEventListener("click", () => answer(1));
byId("no").addEventListener("click", () => answer(0));
byId("open").addEventListener("click", () => answer(null));
for (const name of ["undo", "back"]) byId(name).addEventListener("click", undo);
byId("again").addEventListener("click", askAgain);
byId("save").addEventListener("click", save);
byId("reveal").addEventListener("change", show);

recall();
at = next(0);
show();
