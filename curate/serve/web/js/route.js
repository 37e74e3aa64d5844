// Where we are stands in the address, so that it can be shared and gone back to.

export function here() {
  const [path, query] = (location.hash.replace(/^#\/?/, "") || "overview").split("?");
  const [page, ...rest] = path.split("/");
  return { page, rest: rest.map(decoded), values: new URLSearchParams(query ?? "") };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// A page of the decision that is shown now.
export function address(page, values = {}, ...rest) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ d: here().values.get("d"), ...values })) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, value === true ? "1" : value);
  }
  const path = [page, ...rest.map(encodeURIComponent)].join("/");
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

// One of several samples may share a uid: the number tells them apart.
export const sampleAddress = (sample) => address("sample", { n: sample.number }, sample.uid);

export function go(page, values, ...rest) {
  location.hash = address(page, values, ...rest);
}

// Changes the address without drawing the page anew.
export function note(values) {
  const { page, rest, values: now } = here();
  const next = address(page, { ...Object.fromEntries(now), ...values }, ...rest);
  if (next !== location.hash) history.replaceState(history.state, "", next);
}

export function readConditions(values) {
  try {
    const found = JSON.parse(values.get("c") ?? "[]");
    return Array.isArray(found) ? found.filter((one) => typeof one?.column === "string") : [];
  } catch {
    return [];
  }
}

export const writeConditions = (conditions) => (conditions.length ? JSON.stringify(conditions) : "");

// A page of the samples that meet these conditions.
export const samplesWith = (...conditions) => address("samples", { c: writeConditions(conditions) });

export const inCluster = (step, cluster) => samplesWith({ column: `${step}/cluster_id`, at_least: cluster, at_most: cluster });

// The conditions with one column's replaced; none where `condition` is null.
export function withCondition(conditions, column, condition) {
  const others = conditions.filter((one) => one.column !== column);
  return condition ? [...others, condition] : others;
}
