// Elements without markup: text is always text, whoever wrote it.

const SVG = "http://www.w3.org/2000/svg";
const OWN = new Set(["value", "checked", "disabled", "selected", "open", "hidden"]); // properties, not attributes

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (OWN.has(name)) element[name] = value;
    else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...there(children));
  return element;
}

// The nodes and texts of nested lists, without the places that were left out.
function there(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

export function replace(parent, ...children) {
  parent.replaceChildren(...there(children));
  return parent;
}

// Calls once things have been quiet for a while.
export function settled(milliseconds, call) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
}

// Calls as often as asked, but one call after the other: wishes that come meanwhile make one more.
export function paced(call) {
  let running = false;
  let wanted = false;
  return async () => {
    wanted = true;
    if (running) return;
    running = true;
    try {
      while (wanted) {
        wanted = false;
        await call();
      }
    } finally {
      running = false;
    }
  };
}

// For those who hear the page.
export function announce(text) {
  document.getElementById("live").textContent = text;
}

// For everyone, and for a few seconds.
export function toast(text) {
  announce(text);
  const note = h("div", { class: "toast" }, text);
  document.body.append(note);
  setTimeout(() => note.remove(), 4000);
}

export function download(name, content) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content]));
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
