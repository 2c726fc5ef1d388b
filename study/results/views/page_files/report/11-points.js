// The points of the study: their columns, marks and runs; and the state of the page, which keeps
// figures, table and picker on the same points.

const points = content.points;
const n = points.network.length;

// Okabe and Ito's colors, which every kind of color vision tells apart; and a shape for each, for
// who sees none: one that Plotly draws in three dimensions too, where there are these eight.
const MARKS = {
  front: {
    light: "#0072b2", dark: "#56b4e9", symbol: "circle", size: 11,
    says: "no other point is at least as good in every objective",
  },
  dominated: {
    light: "#6b7280", dark: "#a9b1bc", symbol: "circle-open", size: 7,
    says: "another point is at least as good in everything",
  },
  infeasible: {
    light: "#d55e00", dark: "#f0803c", symbol: "x", size: 8,
    says: "breaks a constraint, or has a value that is not finite",
  },
  not_measured: {
    light: "#6b7280", dark: "#a9b1bc", symbol: "square-open", size: 8,
    says: "an objective or a constraint was not measured of it",
  },
  control: {
    light: "#00795a", dark: "#1fc79a", symbol: "square", size: 9,
    says: "the classifier alone, behind blocks that change nothing; never on the front",
  },
  stopped_early: {
    light: "#b07800", dark: "#e69f00", symbol: "diamond", size: 8,
    says: "ended by the scheduler",
  },
  failed: {
    light: "#a3487a", dark: "#cc79a7", symbol: "cross", size: 8,
    says: "diverged, or its worker failed",
  },
  interrupted: {
    light: "#00795a", dark: "#1fc79a", symbol: "square-open", size: 8,
    says: "the study was left before its end",
  },
  running: {
    light: "#00795a", dark: "#1fc79a", symbol: "diamond-open", size: 8,
    says: "not at its end yet",
  },
};
const markName = (mark) => mark.replace("_", " ");
const colorOf = (mark) => (dark.matches && !printing ? MARKS[mark].dark : MARKS[mark].light);

const state = {
  marks: new Set(Object.keys(MARKS)),
  x: null,
  y: null,
  z: "",
  color: "",
  filter: "", // as it was typed
  alternatives: [[]], // of the filter: conditions of which all are met in one of the lists
  sort: null,
  descending: false,
  page: 0,
  fold: points.projected_to.some((bound) => bound !== null), // one row of the table a training
  unfolded: before.unfolded ?? new Set(), // trainings whose other networks have a row each
  chosen: null,
  goal: null, // of the picker
  limits: {}, // of the picker: name of a metric -> as it was typed
};

// Columns: what a point has, by name. Numbers are null where there is none.
const metricNames = content.metrics
  .map((metric) => metric.name)
  .filter((name) => points[name] && points[name].some((value) => value !== null));
const reported = (names) => names.filter((name) => metricNames.includes(name));
const paramNames = content.params.map((param) => param.name);
const shorts = Object.fromEntries(
  [...content.metrics, ...content.params].map(({ name, short }) => [name, short]),
);
const column = (name) => points[name];
const isLogarithmic = (name) => isLogarithmicOf(name, column(name));
const isNumeric = (name) => column(name).every((v) => v === null || typeof v === "number");
const isThere = (name) => column(name).some((value) => value !== null);
const numeric = [...metricNames, ...paramNames, ...["projected_to"].filter(isThere)]
  .filter(isNumeric);
// Where a point comes from, in a sentence; empty where the sampler proposed it.
const ORIGINS = {
  given: "A sample that the study file gives.",
  told: "A network that its user trained.",
};
const originOf = (i) => ORIGINS[points.origin[i]] || "";

const withError = (name, i) => {
  const error = points[`${name}_se`] && points[`${name}_se`][i];
  return reportedText(name, points[name][i]) + (error ? ` ± ${formatted(error)}` : "");
};

// Runs

const shortRunId = (i) => points.run_id[i].slice(0, 8);
const runPage = (i) => (
  content.run_page ? content.run_page.replace("{run_id}", points.run_id[i]) : null
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
