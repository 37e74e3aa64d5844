// Questions to the service. Errors are messages for people.

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// While answers are under way, a line below the bar says so.
let waiting = 0;

function busy(change) {
  waiting += change;
  document.documentElement.toggleAttribute("data-busy", waiting > 0);
}

async function asked(path, options) {
  busy(1);
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Problem(0, "The service does not answer: is `curate serve` still running?");
  } finally {
    busy(-1);
  }
  if (answer.ok) return answer;
  let said = `The service answered ${answer.status}.`;
  try {
    said = (await answer.json()).error ?? said;
  } catch {
    // not JSON: the status is all there is
  }
  throw new Problem(answer.status, said);
}

export async function get(path, signal) {
  return (await asked(`/api${path}`, { signal })).json();
}

export async function post(path, body, signal) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
  return (await asked(`/api${path}`, options)).json();
}

export async function postBytes(path, body, signal) {
  const options = { method: "POST", headers: { "content-type": "application/octet-stream" }, body, signal };
  return (await asked(`/api${path}`, options)).json();
}

export async function file(path, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await asked(`/api${path}`, options);
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "");
  return { name: name?.[1] ?? "file", count: Number(answer.headers.get("x-count")), blob: await answer.blob() };
}

// What is asked again and never changes.
const kept = new Map();

export function once(path) {
  if (!kept.has(path)) {
    const answer = get(path);
    kept.set(path, answer);
    answer.catch(() => kept.delete(path));
  }
  return kept.get(path);
}

// The last question counts: an older one of the same kind is given up.
export function latest() {
  let running;
  return async (ask) => {
    running?.abort();
    running = new AbortController();
    const mine = running;
    try {
      const answer = await ask(mine.signal);
      return mine.signal.aborted ? undefined : answer;
    } catch (cause) {
      if (cause.name === "AbortError") return undefined;
      throw cause;
    }
  };
}
