// What the pages share: their content, metrics by name, values as text, elements.
//
// Text of a study goes into the page as text, never as HTML.

// Given: the content, and what the page was like `before`, if it is drawn anew.

const leaving = new AbortController(); // ends what listens outside the page's own elements
const listening = { signal: leaving.signal };

const byId = (id) => document.getElementById(id);

// Metrics by name

const objectives = content.objectives.map((objective) => objective.name);
const metricOf = Object.fromEntries(content.metrics.map((metric) => [metric.name, metric]));
const titleOf = (name) => (metricOf[name] ? metricOf[name].title : name);
const directionOf = Object.fromEntries(
  [...content.metrics, ...content.objectives].map(({ name, direction }) => [name, direction]),
);
const ARROWS = { maximize: " \u2191", minimize: " \u2193" };

// Values as text

const unrounded = (value) => {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};
// As the report's table and its sentences write a number.
const formatted = (value) => {
  if (typeof value !== "number") return unrounded(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const rounded = Number(value.toPrecision(4));
  const size = Math.abs(rounded);
  if (size === 0 || (size >= 1e-4 && size < 1e6)) return String(rounded);
  return rounded.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
};
// A number of 0 or more with so many decimals, rounded as the report's table does: what lies halfway
// to the even digit.
const fixed = (value, decimals) => {
  const text = value.toFixed(decimals); // halfway: the larger one
  const isHalfway = Math.abs(value) * 2 ** (decimals + 1) % 2 === 1;
  return isHalfway && text.at(-1) % 2 ? (value - 0.5 / 10 ** decimals).toFixed(decimals) : text;
};
// A value of a metric, in the digits in which it is reported.
const reportedText = (name, value) => {
  const decimals = metricOf[name] ? metricOf[name].decimals : null;
  return typeof value === "number" && decimals !== null ? fixed(value, decimals) : formatted(value);
};
const percent = (share) => `${fixed(100 * share, 0)} %`;
// Plotly reads a little HTML in its texts.
const plain = (text) => String(text)
  .replace(/&/g, "&amp;")
  .replace(/</g, "&lt;")
  .replace(/>/g, "&gt;");

// What to type to check a proof again, with the place of MLflow where it must be said.
const verifyCommand = (network, uri) => (
  ["python -m study.verify", network, ...(content.to_verify || [])].join(" ")
  + (uri ? ` --tracking-uri ${uri}` : "")
);

// Elements

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const figureOf = (title, text) => (
  make("div", {}, make("dt", { textContent: title }), make("dd", { textContent: text }))
);
const hide = (id) => { byId(id).hidden = true; };
const fill = (select, names, chosen, none = null) => {
  if (none !== null) select.append(make("option", { value: "", textContent: none }));
  for (const name of names) {
    const textContent = titleOf(name);
    select.append(make("option", { value: name, textContent, selected: name === chosen }));
  }
};
// What is for people, and in small print the name that is typed.
const titled = (name) => [
  titleOf(name),
  ...(titleOf(name) === name ? [] : [make("small", { textContent: name })]),
];
// A box that puts a member into a set and takes it out.
const checkbox = (set, member, changed) => {
  const box = make("input", { type: "checkbox", checked: set.has(member) });
  box.onchange = () => {
    if (box.checked) set.add(member);
    else set.delete(member);
    changed();
  };
  return box;
};
const outsideLink = (href, text, more = {}) => (
  make("a", { href, target: "_blank", rel: "noopener", textContent: text, ...more })
);
