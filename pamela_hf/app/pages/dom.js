// Elements without a framework. Text always goes in as text: nothing here ever parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Appends what there is; conditions that do not hold leave nothing.
export const append = (node, ...children) => fill(node, {}, children);

export const number = (value, digits = 2) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−"));
export const level = (value) => String(Number(value)).replace(".5", "½").replace(/^0½$/, "½");
export const plural = (count, word) => `${count.toLocaleString("en")} ${count === 1 ? word : MANY[word] ?? `${word}s`}`;
const MANY = { person: "people" };

// A picture with a line below it; `alt` is empty where the line says all there is to say.
export function shot(src, caption, { alt = "", inFrame = [], lazy = true } = {}) {
  const image = h("img", { src, alt, loading: lazy ? "lazy" : "eager", decoding: "async" });
  return h("figure", { class: "shot" }, h("div", { class: "frame" }, image, inFrame), caption && h("figcaption", {}, caption));
}

export function segments(label, options, chosen, onChoose) {
  const buttons = options.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => {
      for (const [i, button] of buttons.entries()) button.setAttribute("aria-pressed", String(options[i][0] === value));
      onChoose(value);
    } }, text));
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

export function slider(label, { min, max, step, value, ends, show = String, onInput }) {
  const output = h("span", { class: "value" }, show(value));
  const input = h("input", { type: "range", min, max, step, value, oninput: () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
    onInput(Number(input.value));
  } });
  return h("label", { class: "slider" }, h("span", {}, label, " ", output), input, ends && h("span", { class: "ends" }, ends.map((end) => h("span", {}, end))));
}
