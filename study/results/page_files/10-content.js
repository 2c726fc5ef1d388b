// What the sections share: the page's content and state, columns of the points, small helpers.
//
// The page draws the content that stands in it, and keeps figures, table and picker on the same
// points. Text of the study goes into the page as text, never as HTML.

const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("content").textContent);
const points = content.points;
const n = points.label.length;

// Okabe and Ito's colors, which every kind of color vision tells apart; and a shape for each, for
// who sees none.
const MARKS = {
  front: {
    light: "#0072b2", dark: "#56b4e9", symbol: "circle", symbol3d: "circle", size: 11,
    says: "no other point is better",
  },
  dominated: {
    light: "#6b7280", dark: "#a9b1bc", symbol: "circle-open", symbol3d: "circle-open", size: 7,
    says: "another point is at least as good in everything",
  },
  infeasible: {
    light: "#d55e00", dark: "#f0803c", symbol: "x", symbol3d: "x", size: 8,
    says: "breaks a constraint, or has a value that is not finite",
  },
  stopped_early: {
    light: "#b07800", dark: "#e69f00", symbol: "triangle-up", symbol3d: "diamond-open", size: 8,
    says: "ended by the scheduler",
  },
  failed: {
    light: "#a3487a", dark: "#cc79a7", symbol: "cross", symbol3d: "cross", size: 8,
    says: "diverged, or its worker failed",
  },
  interrupted: {
    light: "#00795a", dark: "#1fc79a", symbol: "square-open", symbol3d: "square-open", size: 8,
    says: "the study was left before its end",
  },
  running: {
    light: "#00795a", dark: "#1fc79a", symbol: "diamond-open", symbol3d: "diamond", size: 8,
    says: "not at its end yet",
  },
};
const markName = (mark) => mark.replace("_", " ");

const state = {
  marks: new Set(Object.keys(MARKS)),
  x: null,
  y: null,
  z: "",
  color: "",
  size: "",
  filter: "", // as it was typed
  terms: [], // of the filter
  ranges: [], // of the parallel axes: {k, get, ranges}
  sort: null,
  descending: false,
  page: 0,
  chosen: null,
  goal: null, // of the picker
  limits: {}, // of the picker: name of a metric -> as it was typed
};

// Columns: what a point has, by name. Numbers are null where there is none.
const metricNames = content.metrics
  .map((metric) => metric.name)
  .filter((name) => points.metrics[name].some((value) => value !== null));
const reported = (names) => names.filter((name) => metricNames.includes(name));
const paramNames = content.params.map((param) => param.name);
const OF_POINTS = [
  "label", "trial_id", "run_id", "mark", "projected_to", "origin", "reason", "front_share", "low",
  "high",
];
const column = (name) => {
  for (const columns of [points.metrics, points.params]) {
    if (Object.hasOwn(columns, name)) return columns[name];
  }
  return OF_POINTS.includes(name) ? points[name] : undefined;
};
const isNumeric = (name) => column(name).every((v) => v === null || typeof v === "number");
const numeric = [...metricNames, ...paramNames].filter(isNumeric);
const objectives = content.objectives.map((objective) => objective.name);
const metricOf = Object.fromEntries(content.metrics.map((metric) => [metric.name, metric]));
const titleOf = (name) => (metricOf[name] ? metricOf[name].title : name);
const directionOf = Object.fromEntries(
  [...content.metrics, ...content.objectives].map(({ name, direction }) => [name, direction]),
);

// Where a point comes from, in a sentence; empty where the sampler proposed it.
const originOf = (i) => {
  const origin = points.origin[i];
  if (origin === "") return "";
  return origin === "given"
    ? "A sample that the study file gives."
    : `The training of trial ${origin}, gone on with.`;
};

// Values as text

const unrounded = (value) => {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};
const formatted = (value) => {
  if (typeof value !== "number") return unrounded(value);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(+value.toPrecision(4));
};
// A value of a metric, in the digits in which it is reported.
const reportedText = (name, value) => {
  const decimals = metricOf[name] ? metricOf[name].decimals : null;
  return typeof value === "number" && decimals !== null ? value.toFixed(decimals) : formatted(value);
};
const withError = (name, i) => {
  const error = points.standard_error[name] && points.standard_error[name][i];
  return reportedText(name, points.metrics[name][i]) + (error ? ` ± ${formatted(error)}` : "");
};
const percent = (share) => `${Math.round(100 * share)} %`;
// Plotly reads a little HTML in its texts.
const plain = (text) => String(text)
  .replace(/&/g, "&amp;")
  .replace(/</g, "&lt;")
  .replace(/>/g, "&gt;");

// Elements

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
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

// Runs

const shortRunId = (i) => points.run_id[i].slice(0, 8);
const runPage = (i) => (
  content.run_page ? content.run_page.replace("{run_id}", points.run_id[i]) : null
);
const outsideLink = (href, text, more = {}) => (
  make("a", { href, target: "_blank", rel: "noopener", textContent: text, ...more })
);
const runLink = (i, text = shortRunId(i)) => {
  const page = runPage(i);
  if (page) return outsideLink(page, text);
  return make("code", { textContent: points.run_id[i] });
};
const openRun = (i) => {
  const page = runPage(i);
  if (page) open(page, "_blank", "noopener");
};
