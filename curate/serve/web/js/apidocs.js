// The HTTP API, drawn from its own OpenAPI document.

import { get } from "./api.js";
import { h, replace } from "./dom.js";

export async function apidocs(main) {
  const found = await get("/openapi.json");
  const groups = new Map();
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, about] of Object.entries(methods)) {
      const tag = about.tags?.[0] ?? "service";
      groups.set(tag, [...(groups.get(tag) ?? []), { path, method, about }]);
    }
  }
  replace(main, h("div", { class: "head" }, h("h1", {}, "HTTP API"), h("p", { class: "quiet" }, found.info.description, " The document itself: ", h("a", { href: "/api/openapi.json" }, "/api/openapi.json"))),
    [...groups].map(([tag, items]) => h("section", { class: "card" }, h("h2", {}, tag), items.map(({ path, method, about }) => h("details", { class: "route" },
      h("summary", {}, h("code", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path), h("span", { class: "quiet" }, marked(about.description ?? ""))),
      parameters(about), body(found, about.requestBody), h("h4", {}, "answers"), Object.entries(about.responses).map(([code, one]) => h("div", {}, h("code", {}, code), " ", one.description || ""))))))
  );
}

// Words between backticks are code.
const marked = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

function parameters(about) {
  if (!about.parameters?.length) return null;
  return h("ul", {}, about.parameters.map((one) => h("li", {}, h("code", {}, one.name), ` in ${one.in}`, one.required ? ", required" : "", one.description ? [": ", marked(one.description)] : "")));
}

function body(found, request) {
  const content = request?.content?.["application/json"]?.schema;
  if (!content) return request ? h("p", {}, "The body: bytes.") : null;
  return h("div", {}, h("h4", {}, "body"), h("pre", {}, JSON.stringify(named(found, content), null, 2)));
}

function named(found, schema) {
  const name = schema.$ref?.split("/").at(-1);
  const full = name ? found.components.schemas[name] : schema;
  return Object.fromEntries(Object.entries(full.properties ?? {}).map(([key, one]) => [key, one.$ref?.split("/").at(-1) ?? one.type ?? one.anyOf?.map((each) => each.type ?? each.$ref?.split("/").at(-1)).join(" | ") ?? "any"]));
}
