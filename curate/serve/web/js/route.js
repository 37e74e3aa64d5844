// Where we are stands in the address, so that it can be shared and gone back to.

export function here() {
  const [path, query] = (location.hash.replace(/^#\/?/, "") || "overview").split("?");
  const [page, ...rest] = path.split("/");
  const values = new URLSearchParams(query ?? "");
  return { page, rest: rest.map(decodeURIComponent), values };
}

export function address(page, values = {}, ...rest) {
  const query = new URLSearchParams();
  const kept = here().values.get("d");
  for (const [name, value] of Object.entries({ d: kept, ...values })) {
    if (value !== undefined && value !== null && value !== "" && value !== false) query.set(name, value === true ? "1" : value);
  }
  const path = [page, ...rest.map(encodeURIComponent)].join("/");
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

export function go(page, values, ...rest) {
  location.hash = address(page, values, ...rest);
}

// Changes the address without drawing the page anew.
export function note(values) {
  const { page, rest, values: now } = here();
  const all = { ...Object.fromEntries(now), ...values };
  history.replaceState(null, "", address(page, all, ...rest));
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

// The conditions with one column's replaced; none where `condition` is null.
export function withCondition(conditions, column, condition) {
  const others = conditions.filter((one) => one.column !== column);
  return condition ? [...others, condition] : others;
}
