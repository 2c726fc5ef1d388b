"use strict";
// The report page: reads the content that stands in the page, draws it, and keeps figures, table
// and picker on the same points. Text from the study goes into the page as text, never as HTML.
(() => {
const content = JSON.parse(document.getElementById("content").textContent);
const points = content.points;
const n = points.label.length;
const byId = (id) => document.getElementById(id);

// Okabe and Ito's colors, which every kind of color vision tells apart; and a shape for each, for
// who sees none.
const MARKS = {
  front: { light: "#0072b2", dark: "#56b4e9", symbol: "circle", symbol3d: "circle", size: 11, says: "no other point is better" },
  dominated: { light: "#6b7280", dark: "#a9b1bc", symbol: "circle-open", symbol3d: "circle-open", size: 7, says: "another point is at least as good in everything" },
  infeasible: { light: "#d55e00", dark: "#f0803c", symbol: "x", symbol3d: "x", size: 8, says: "breaks a constraint, or has a value that is not finite" },
  stopped_early: { light: "#b07800", dark: "#e69f00", symbol: "triangle-up", symbol3d: "diamond-open", size: 8, says: "ended by the scheduler" },
  failed: { light: "#a3487a", dark: "#cc79a7", symbol: "cross", symbol3d: "cross", size: 8, says: "diverged, or its worker failed" },
  interrupted: { light: "#00795a", dark: "#1fc79a", symbol: "square-open", symbol3d: "square-open", size: 8, says: "the study was left before its end" },
  running: { light: "#00795a", dark: "#1fc79a", symbol: "diamond-open", symbol3d: "diamond", size: 8, says: "not at its end yet" },
};
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const PAGE_ROWS = 50;
const MANY = 1500; // beyond that the two-dimensional figure is drawn by WebGL

const dark = matchMedia("(prefers-color-scheme: dark)");
const state = {
  marks: new Set(Object.keys(MARKS)), x: null, y: null, z: "", size: "",
  terms: [], sort: null, descending: false, page: 0, chosen: null,
  ranges: [], // of the parallel axes: {get, ranges}
};

// Columns: what a point has, by name. Numbers are null where there is none.
const metricNames = content.metrics.map((m) => m.name).filter((name) => points.metrics[name].some((v) => v !== null));
const paramNames = content.params.map((p) => p.name);
const column = (name) => points.metrics[name] || points.params[name] || points[name];
const isNumeric = (name) => column(name).every((v) => v === null || typeof v === "number");
const numeric = [...metricNames, ...paramNames].filter(isNumeric);
const objectives = content.objectives.map((o) => o.name);
const directionOf = Object.fromEntries(
  [...content.metrics, ...content.objectives].map((m) => [m.name, m.direction]));

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const shown = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(+value.toPrecision(4));
};
// Plotly reads a little HTML in its texts.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const runPage = (i) => content.run_page ? content.run_page.replace("{run_id}", points.run_id[i]) : null;
const openRun = (i) => { const page = runPage(i); if (page) open(page, "_blank", "noopener"); };

// Look of the figures

// Figures are drawn before the page's own colors change for print: on white, whatever the theme.
const ON_PAPER = { "--ink": "#000000", "--soft": "#333333", "--line": "#999999" };
let printing = false;
const css = (name) => (printing && ON_PAPER[name])
  || getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colorOf = (mark) => dark.matches && !printing ? MARKS[mark].dark : MARKS[mark].light;
const axis = (title, more = {}) => ({
  title: { text: plain(title) }, gridcolor: css("--line"), zerolinecolor: css("--line"),
  linecolor: css("--line"), automargin: true, ...more,
});
const layout = (more) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 },
  margin: { l: 60, r: 15, t: 15, b: 50 }, hoverlabel: { align: "left" },
  legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, ...more,
});
// Nothing of a study goes to Plotly's makers, who would share it.
const CONFIG = {
  responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendChartToCloud", "sendDataToCloud", "lasso2d", "select2d", "toImage"],
};
const drawn = new Map(); // figure -> how to draw it, once it came into sight
const draw = (id) => { if (drawn.has(id)) drawn.get(id)(); };
const whenSeen = (id, how) => {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    drawn.set(id, how);
    how();
  }, { rootMargin: "300px" });
  watcher.observe(byId(id));
  pending.set(id, () => { watcher.disconnect(); drawn.set(id, how); how(); });
};
const pending = new Map();
const react = (id, traces, more) => {
  try {
    return Plotly.react(byId(id), traces, layout(more), CONFIG);
  } catch (error) {
    byId(id).textContent = `This figure cannot be drawn here: ${error.message || error}`;
    throw error;
  }
};

// Which points are shown

const matches = (term, i) => {
  if (term.column) {
    const value = column(term.column)[i];
    if (typeof value !== "number") return term.operator === "=" && String(value) === term.text;
    switch (term.operator) {
      case "<": return value < term.value;
      case "<=": return value <= term.value;
      case ">": return value > term.value;
      case ">=": return value >= term.value;
      default: return value === term.value;
    }
  }
  return words[i].includes(term.text);
};
const words = Array.from({ length: n }, (_, i) => [
  points.label[i], points.mark[i], points.run_id[i], points.reason[i] || "",
  ...paramNames.map((name) => shown(points.params[name][i])),
].join(" ").toLowerCase());
const parseFilter = (text) => text.trim().split(/\s+/).filter(Boolean).map((word) => {
  const parts = word.match(/^([A-Za-z_][\w.]*)(<=|>=|<|>|=)(.+)$/);
  if (parts && column(parts[1])) {
    return { column: parts[1], operator: parts[2], value: Number(parts[3]), text: parts[3] };
  }
  return { text: word.toLowerCase() };
});
// A point that has no value on an axis is in no range of it.
const isWithin = ({ get, ranges }, i) => {
  const value = get(i);
  return value !== null && ranges.some(([low, high]) => low <= value && value <= high);
};
const visible = (withBrush = true) => {
  const kept = [];
  for (let i = 0; i < n; i++) {
    if (!state.marks.has(points.mark[i])) continue;
    if (withBrush && !state.ranges.every((range) => isWithin(range, i))) continue;
    if (state.terms.every((term) => matches(term, i))) kept.push(i);
  }
  return kept;
};

// The trade

const hoverText = (i) => {
  const lines = [`<b>${plain(points.label[i])}</b>  ${points.mark[i].replace("_", " ")}`];
  for (const name of paramNames) lines.push(`${plain(name)} ${plain(shown(points.params[name][i]))}`);
  for (const name of metricNames) {
    const value = points.metrics[name][i];
    if (value === null) continue;
    const error = points.standard_error[name] && points.standard_error[name][i];
    lines.push(`${name} ${shown(value)}${error ? ` ± ${shown(error)}` : ""}`);
  }
  if (points.reason[i]) lines.push(plain(points.reason[i].slice(0, 80)));
  return lines.join("<br>");
};
const hoverTexts = new Map();
const hover = (i) => {
  if (!hoverTexts.has(i)) hoverTexts.set(i, hoverText(i));
  return hoverTexts.get(i);
};
// Bounds and errors run over orders of magnitude.
const isLogarithmic = (name) => {
  const values = column(name).filter((v) => typeof v === "number");
  return values.length > 0 && values.every((v) => v > 0) && Math.max(...extent(values)) > 30 * Math.min(...extent(values));
};
const extent = (values) => {
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  return [low, high];
};
// Ticks at 1, 2 and 5 times a power of ten, with their numbers, and the others without.
const ticks = (values) => {
  const [low, high] = extent(values.filter((v) => v !== null));
  const places = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (let k = 1; k <= 9; k++) places.push(Number(`${k}e${e}`));
  }
  const few = Math.log10(high / low) < 3;
  return places.map((at) => {
    const digit = Number(at.toExponential()[0]);
    return { at, text: digit === 1 || (few && (digit === 2 || digit === 5)) ? shown(at) : "" };
  });
};
const logarithmic = (values) => {
  const placed = ticks(values);
  return { type: "log", tickvals: placed.map((t) => t.at), ticktext: placed.map((t) => t.text) };
};
const drawFront = () => {
  const kept = visible();
  const three = state.z !== "";
  const names = [state.x, state.y, ...(three ? [state.z] : [])];
  const placed = kept.filter((i) => names.every((name) => column(name)[i] !== null));
  const kind = three ? "scatter3d" : placed.length > MANY ? "scattergl" : "scatter";
  let scale = () => 1;
  if (state.size) {
    const [low, high] = extent(column(state.size).filter((v) => v !== null));
    scale = (i) => {
      const value = column(state.size)[i];
      return value === null || high === low ? 1 : 0.6 + 1.6 * (value - low) / (high - low);
    };
  }
  const traces = [];
  // The front last, above the others.
  for (const mark of Object.keys(MARKS).reverse()) {
    const ids = placed.filter((i) => points.mark[i] === mark);
    if (!ids.length) continue;
    const look = MARKS[mark];
    traces.push({
      type: kind, mode: "markers", name: mark.replace("_", " "), customdata: ids,
      x: ids.map((i) => column(state.x)[i]), y: ids.map((i) => column(state.y)[i]),
      ...(three ? { z: ids.map((i) => column(state.z)[i]) } : {}),
      text: ids.map(hover), hovertemplate: "%{text}<extra></extra>",
      marker: {
        opacity: 0.9, color: colorOf(mark), symbol: three ? look.symbol3d : look.symbol,
        size: ids.map((i) => look.size * scale(i) * (three ? 0.8 : 1)),
        line: { width: 1.5, color: colorOf(mark) },
      },
    });
  }
  if (state.chosen !== null && placed.includes(state.chosen)) {
    const i = state.chosen;
    traces.push({
      type: three ? "scatter3d" : "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
      x: [column(state.x)[i]], y: [column(state.y)[i]], ...(three ? { z: [column(state.z)[i]] } : {}),
      marker: { size: three ? 16 : 22, symbol: "circle-open", color: css("--ink"), line: { width: 2 } },
    });
  }
  const axisOf = (name) => axis(`${name}${arrow(name)}`, isLogarithmic(name) ? logarithmic(column(name)) : {});
  const places = three
    ? { scene: { xaxis: axisOf(state.x), yaxis: axisOf(state.y), zaxis: axisOf(state.z), camera: { eye: { x: 1.6, y: 1.6, z: 1 } } }, margin: { l: 0, r: 0, t: 0, b: 0 } }
    : { xaxis: axisOf(state.x), yaxis: axisOf(state.y) };
  react("front-plot", traces, { hovermode: "closest", uirevision: names.join(), ...places });
  const missing = kept.length - placed.length;
  byId("front-note").replaceChildren(
    `${placed.length} of ${n} points; \u2191 more is better, \u2193 less is`
    + (missing ? `; ${missing} have no value on these axes` : "") + ". "
    + (content.run_page ? "A click opens the run in MLflow." : "A click shows the point; no tracking server is known that could show its run."),
    ...compareLink(),
  );
};
const compareLink = () => content.compare_page
  ? [" ", make("a", { href: content.compare_page, target: "_blank", rel: "noopener", id: "compare", textContent: "Compare the front in MLflow." })]
  : [];
const arrow = (name) => ({ maximize: " \u2191", minimize: " \u2193" }[directionOf[name]] || "");
const better = (name) => ({ maximize: "; more is better", minimize: "; less is better" }[directionOf[name]] || "");
const frontEvents = () => {
  const plot = byId("front-plot");
  plot.on("plotly_hover", (event) => detail(event.points[0].customdata));
  plot.on("plotly_unhover", () => detail(state.chosen));
  plot.on("plotly_click", (event) => {
    const i = event.points[0].customdata;
    if (typeof i !== "number") return;
    choose(i);
    openRun(i);
  });
};
const choose = (i) => {
  state.chosen = i;
  detail(i);
  draw("front-plot");
  // In place, so that the keyboard stays where it is.
  for (const row of byId("point-table").tBodies[0].rows) row.classList.toggle("chosen", Number(row.dataset.point) === i);
};
const facts = (pairs) => {
  const list = make("dl", { className: "facts" });
  for (const [key, value] of pairs) list.append(make("dt", { textContent: key }), make("dd", { textContent: value }));
  return list;
};
const runLink = (i, text) => {
  const page = runPage(i);
  return page ? make("a", { href: page, target: "_blank", rel: "noopener", textContent: text }) : make("code", { textContent: points.run_id[i] });
};
const detail = (i) => {
  const box = byId("detail");
  if (typeof i !== "number") {
    box.replaceChildren(make("p", { className: "note", textContent: "Point at a network, or choose one in the table, to see all of it here." }));
    return;
  }
  const mark = points.mark[i];
  box.replaceChildren(
    make("h3", { textContent: points.label[i] }),
    make("p", { className: "note", textContent: `${mark.replace("_", " ")}: ${MARKS[mark].says}` }),
    facts(paramNames.map((name) => [name, shown(points.params[name][i])])),
    facts(metricNames.filter((name) => points.metrics[name][i] !== null).map((name) => {
      const error = points.standard_error[name] && points.standard_error[name][i];
      return [name, shown(points.metrics[name][i]) + (error ? ` ± ${shown(error)}` : "")];
    })),
    ...(points.front_share[i] !== null ? [make("p", { className: "note", textContent: `on the front in ${Math.round(100 * points.front_share[i])} % of draws` })] : []),
    ...(points.reason[i] ? [make("p", { textContent: points.reason[i] })] : []),
    make("p", {}, "run ", runLink(i, points.run_id[i].slice(0, 8))),
  );
};

// Picking

const pickable = () => {
  const kept = [];
  for (let i = 0; i < n; i++) if (points.mark[i] === "front" || points.mark[i] === "dominated") kept.push(i);
  return kept;
};
// Of a network itself: a point of several trainings is their mean, and the run the first of them.
const own = (name) => (points.own ? points.own[name] : points.metrics[name]);
const pick = () => {
  const goal = byId("pick-goal").value;
  const limits = [...byId("pick-limits").querySelectorAll("input")].filter((input) => input.value !== "");
  const sign = directionOf[goal] === "maximize" ? -1 : 1;
  const kept = pickable().filter((i) => own(goal)[i] !== null && limits.every((input) => {
    const value = own(input.name)[i];
    const limit = Number(input.value);
    if (value === null) return false;
    return input.dataset.operator === "<" ? value < limit : input.dataset.operator === "<=" ? value <= limit : value >= limit;
  }));
  kept.sort((a, b) => sign * (own(goal)[a] - own(goal)[b]));
  const code = byId("picked-code");
  code.hidden = kept.length === 0;
  if (!kept.length) {
    byId("picked").textContent = pickable().length ? "No network meets these limits." : "No network completed within the constraints.";
    return;
  }
  const i = kept[0];
  const says = [goal, ...limits.map((input) => input.name)].filter((name, k, all) => all.indexOf(name) === k)
    .map((name) => `${name} ${shown(own(name)[i])}`).join(", ");
  byId("picked").replaceChildren(
    make("button", { type: "button", textContent: points.label[i], onclick: () => choose(i) }),
    `  ${says}${points.own ? ", of the first training" : ""}  (${kept.length} of ${pickable().length} meet the limits)  run `, runLink(i, points.run_id[i].slice(0, 8)),
  );
  const uri = content.server ? ` --tracking-uri ${content.server}` : "";
  code.textContent = `python -m study.verify ${points.run_id[i]}${uri}\n`
    + `mlflow.pytorch.load_model("runs:/${points.run_id[i]}/model")`;
};
const makePicker = () => {
  const goals = metricNames.filter((name) => directionOf[name]);
  fill(byId("pick-goal"), goals, objectives[0]);
  const limited = [...new Set([...objectives, "lipschitz_upper_bound", "inverse_steps", "reconstruction_error"])].filter((name) => metricNames.includes(name));
  for (const name of limited) {
    // A bound that is 1 proves nothing, so that one is strict.
    const operator = directionOf[name] === "maximize" ? ">=" : name === "lipschitz_upper_bound" ? "<" : "<=";
    const input = make("input", { type: "number", name, step: "any", oninput: pick });
    input.dataset.operator = operator;
    byId("pick-limits").append(make("label", {}, `${name} ${operator} `, input));
  }
  byId("pick-goal").onchange = pick;
  byId("picker").onsubmit = (event) => event.preventDefault();
  pick();
};

// Growth, hyperparameters

const drawGrowth = () => {
  const by = byId("growth-by").value;
  const growth = content.growth;
  react("growth-plot", [{
    type: "scatter", mode: "lines", line: { shape: "hv", color: colorOf("front"), width: 2 },
    x: growth[by], y: growth.hypervolume, hovertemplate: "%{x}: %{y:.4g}<extra></extra>",
  }], { xaxis: axis(by === "hours" ? "hours since the first trial began" : "epochs trained, of all trials", { rangemode: "tozero" }), yaxis: axis("hypervolume") });
};
const dimension = (name) => {
  const values = column(name);
  if (isNumeric(name)) {
    if (!isLogarithmic(name)) return { label: plain(name), get: (i) => values[i], more: {} };
    const [low, high] = extent(values.filter((v) => v !== null));
    const placed = ticks(values).filter((t) => t.text && low <= t.at && t.at <= high);
    return {
      label: plain(name), get: (i) => (values[i] === null ? null : Math.log10(values[i])),
      more: { tickvals: placed.map((t) => Math.log10(t.at)), ticktext: placed.map((t) => t.text) },
    };
  }
  const choices = [...new Set(values.map(shown))];
  return {
    label: plain(name), get: (i) => choices.indexOf(shown(values[i])),
    more: { tickvals: choices.map((_, k) => k), ticktext: choices.map(plain) },
  };
};
let parallel = { ids: [], dimensions: [] };
const drawParallel = () => {
  const names = [...paramNames, ...objectives.filter((name) => metricNames.includes(name))];
  const dimensions = names.map(dimension);
  const ids = visible(false).filter((i) => dimensions.every((d) => d.get(i) !== null));
  const first = dimension(objectives[0]);
  parallel = { ids, dimensions };
  const kept = (k) => {
    const range = state.ranges.find((one) => one.k === k);
    return range ? { constraintrange: range.ranges.length === 1 ? range.ranges[0] : range.ranges } : {};
  };
  react("parallel-plot", [{
    type: "parcoords", labelangle: -15, labelside: "top",
    line: { color: ids.map(first.get), colorscale: "Cividis", showscale: true, colorbar: { title: { text: plain(objectives[0]) }, thickness: 12, ...first.more } },
    dimensions: dimensions.map((d, k) => ({ label: d.label, values: ids.map(d.get), ...d.more, ...kept(k) })),
    unselected: { line: { color: css("--line"), opacity: 0.3 } },
  }], { margin: { l: 50, r: 30, t: 80, b: 25 } });
};
const readBrush = () => {
  state.ranges = byId("parallel-plot").data[0].dimensions.flatMap((d, k) => {
    if (!d.constraintrange) return [];
    const ranges = Array.isArray(d.constraintrange[0]) ? d.constraintrange : [d.constraintrange];
    return [{ k, get: parallel.dimensions[k].get, ranges }];
  });
  state.page = 0;
  draw("front-plot");
  drawTable();
};
const drawImportance = () => {
  const shares = content.importance;
  const traces = Object.keys(shares).map((objective, k) => ({
    type: "bar", name: objective, x: Object.keys(shares[objective]), y: Object.values(shares[objective]),
    marker: { color: LINES[k % LINES.length], pattern: { shape: ["", "/", ".", "x"][k % 4] } },
    hovertemplate: `${plain(objective)}: %{y:.0%}<extra>%{x}</extra>`,
  }));
  react("importance-plot", traces, { barmode: "group", xaxis: axis(""), yaxis: axis("share of the variance", { tickformat: ".0%", range: [0, 1] }) });
};

// Networks

const chosenNetworks = new Set(content.networks.slice(0, 6).map((_, k) => k));
const lineLook = (k) => ({ color: LINES[k % LINES.length], dash: DASHES[Math.floor(k / LINES.length) % DASHES.length] });
const eachNetwork = (make) => content.networks.flatMap((network, k) => (chosenNetworks.has(k) ? make(network, k) : []));
const drawLayers = () => {
  const traces = eachNetwork((network, k) => [{
    type: "scatter", mode: "lines+markers", name: plain(network.label), line: { ...lineLook(k), width: 1 }, marker: { size: 4 },
    x: network.layers.map((_, i) => i + 1), y: network.layers.map((l) => l.upper_bound), text: network.layers.map((l) => plain(l.name)),
    hovertemplate: "%{text}: %{y:.4f}<extra>" + plain(network.label) + "</extra>",
  }]);
  react("layers-plot", traces, { xaxis: axis("layer"), yaxis: axis("proven bound of its norm, l2", { rangemode: "tozero" }), shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1, line: { color: css("--soft"), width: 1, dash: "dash" } }] });
};
const drawInverse = () => {
  const traces = eachNetwork((network, k) => {
    const inverse = network.inverse;
    const found = [{
      type: "scatter", mode: "lines+markers", name: plain(network.label), legendgroup: String(k), line: lineLook(k), marker: { size: 5 },
      x: inverse.n_steps, y: inverse.reconstruction_error, hovertemplate: "%{x} steps: %{y:.2e}<extra>" + plain(network.label) + "</extra>",
    }];
    if (inverse.predicted !== null) {
      found.push({
        type: "scatter", mode: "markers", legendgroup: String(k), showlegend: false, x: [inverse.predicted], y: [inverse.rtol],
        marker: { symbol: "star-diamond", size: 13, color: lineLook(k).color, line: { width: 1, color: css("--ink") } },
        hovertemplate: `predicted by the certificate: %{x} steps for ${shown(inverse.rtol)}<extra>${plain(network.label)}</extra>`,
      });
    }
    return found;
  });
  react("inverse-plot", traces, { xaxis: axis("steps in every block"), yaxis: axis("reconstruction error, l2", { type: "log", exponentformat: "power" }) });
};
const drawReconstructions = () => {
  byId("reconstructions").replaceChildren(...eachNetwork((network) => network.image === null ? [] : [make("figure", {},
    make("img", { src: network.image, alt: `Validation images above their reconstructions by ${network.label}` }),
    make("figcaption", { textContent: `${network.label}: images above, reconstructions below (paper, Figure 3); reconstruction error ${network.reconstruction_error === null ? "not finite" : shown(network.reconstruction_error)}` }),
  )]));
};
const drawNetworks = () => { draw("layers-plot"); draw("inverse-plot"); drawReconstructions(); };
const makeNetworks = () => {
  content.networks.forEach((network, k) => {
    const box = make("input", { type: "checkbox", checked: chosenNetworks.has(k), onchange: () => {
      if (box.checked) chosenNetworks.add(k); else chosenNetworks.delete(k);
      drawNetworks();
    } });
    byId("network-choice").append(make("label", {}, box, ` ${network.label}`));
  });
  if (content.networks.some((network) => network.inverse.predicted !== null)) {
    byId("inverse-note").textContent = "Reconstruction error after so many steps in every block (paper, Figure 4). The star: steps that the certificate predicts for the block with the largest bound until the first error has shrunk to the tolerance; a proof, so never too few.";
  } else {
    byId("inverse-note").textContent = "Reconstruction error after so many steps in every block (paper, Figure 4). The certificates of these networks predict no number of steps.";
  }
  drawReconstructions();
  whenSeen("layers-plot", drawLayers);
  whenSeen("inverse-plot", drawInverse);
};

// The table

const tableColumns = [
  { name: "label", title: "point", text: true }, { name: "mark", title: "mark", text: true },
  ...[...new Set([...objectives, "test_accuracy", "reconstruction_error", ...metricNames])].filter((name) => metricNames.includes(name)).map((name) => ({ name, title: name })),
  ...paramNames.map((name) => ({ name, title: name, text: !isNumeric(name) })),
  { name: "run_id", title: "run", text: true },
];
const sorted = (ids) => {
  if (state.sort === null) return ids;
  const values = column(state.sort);
  const sign = state.descending ? -1 : 1;
  // What has no value comes last, whichever way.
  return [...ids].sort((a, b) => {
    const [u, v] = [values[a], values[b]];
    if (u === null || v === null) return (u === null) - (v === null);
    if (typeof u === "number" && typeof v === "number") return sign * (u - v);
    return sign * String(u).localeCompare(String(v), undefined, { numeric: true });
  });
};
const makeTable = () => {
  const row = make("tr");
  for (const c of tableColumns) {
    const cell = make("th", { scope: "col", className: c.text ? "text" : "" });
    cell.dataset.column = c.name;
    cell.append(make("button", { type: "button", textContent: c.title, onclick: () => {
      state.descending = state.sort === c.name ? !state.descending : directionOf[c.name] === "maximize";
      state.sort = c.name;
      state.page = 0;
      drawTable();
    } }));
    row.append(cell);
  }
  byId("point-table").tHead.append(row);
};
const drawTable = () => {
  const ids = sorted(visible());
  const nPages = Math.max(1, Math.ceil(ids.length / PAGE_ROWS));
  state.page = Math.min(state.page, nPages - 1);
  for (const cell of byId("point-table").tHead.rows[0].cells) {
    const order = cell.dataset.column === state.sort ? (state.descending ? "descending" : "ascending") : "none";
    cell.setAttribute("aria-sort", order);
  }
  const rows = ids.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS).map((i) => {
    const row = make("tr", { className: i === state.chosen ? "chosen" : "" });
    row.dataset.point = i;
    for (const c of tableColumns) {
      const cell = make("td", { className: c.text ? "text" : "" });
      if (c.name === "label") cell.append(make("button", { type: "button", textContent: points.label[i], onclick: () => choose(i) }));
      else if (c.name === "run_id") cell.append(runPage(i) ? runLink(i, points.run_id[i].slice(0, 8)) : make("code", { textContent: points.run_id[i].slice(0, 8), title: points.run_id[i] }));
      else if (c.name === "mark") cell.textContent = points.mark[i].replace("_", " ");
      else cell.textContent = shown(column(c.name)[i]);
      row.append(cell);
    }
    return row;
  });
  byId("point-table").tBodies[0].replaceChildren(...rows);
  byId("count").textContent = `${ids.length} of ${n} points`;
  const turn = (text, by, disabled) => make("button", { type: "button", textContent: text, disabled, onclick: () => {
    state.page += by;
    drawTable();
    const buttons = [...byId("pages").querySelectorAll("button")];
    (buttons.find((button) => button.textContent === text && !button.disabled) || buttons.find((button) => !button.disabled)).focus();
  } });
  byId("pages").replaceChildren(...(nPages === 1 ? [] : [
    turn("Before", -1, state.page === 0), `page ${state.page + 1} of ${nPages}`, turn("Next", 1, state.page === nPages - 1),
  ]));
};
const csvField = (value) => {
  let text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
  // Spreadsheets take text that begins so for a formula, and run it.
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const saveCsv = () => {
  const names = ["label", "mark", ...metricNames, ...paramNames, "trial_id", "projected_to", "run_id", "reason"];
  const lines = [names, ...sorted(visible()).map((i) => names.map((name) => column(name)[i]))];
  const blob = new Blob([lines.map((line) => line.map(csvField).join(",") + "\n").join("")], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `${content.study}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not before the download has begun
};

// Putting it together

const fill = (select, names, chosen, none = null) => {
  if (none !== null) select.append(make("option", { value: "", textContent: none }));
  for (const name of names) select.append(make("option", { value: name, textContent: name, selected: name === chosen }));
};
const redraw = () => { state.page = 0; draw("front-plot"); draw("parallel-plot"); drawTable(); };
const hide = (id) => { byId(id).hidden = true; };

byId("name").textContent = content.study;
byId("summary").textContent = content.summary;
byId("made").textContent = content.made;

const counts = {};
for (const mark of points.mark) counts[mark] = (counts[mark] || 0) + 1;
for (const mark of Object.keys(MARKS).filter((mark) => counts[mark])) {
  const box = make("input", { type: "checkbox", checked: true, onchange: () => {
    if (box.checked) state.marks.add(mark); else state.marks.delete(mark);
    redraw();
  } });
  box.dataset.mark = mark;
  byId("marks").append(make("label", { title: MARKS[mark].says }, box, ` ${mark.replace("_", " ")} (${counts[mark]})`));
}
const plottable = objectives.filter((name) => numeric.includes(name));
const others = numeric.filter((name) => !plottable.includes(name));
state.x = plottable[1] || others[0] || numeric[0];
state.y = plottable[0] || numeric[0];
for (const [key, none] of [["x", null], ["y", null], ["z", "none (2D)"], ["size", "all alike"]]) {
  const select = byId(`axis-${key}`);
  fill(select, numeric, state[key], none);
  select.onchange = () => { state[key] = select.value; draw("front-plot"); };
}
byId("filter").oninput = (event) => { state.terms = parseFilter(event.target.value); redraw(); };
byId("csv").onclick = saveCsv;
byId("growth-by").onchange = () => draw("growth-plot");
byId("unbrush").onclick = () => { state.ranges = []; redraw(); };

makeTable();
drawTable();
detail(null);
if (metricNames.length && objectives.every((name) => metricNames.includes(name))) {
  drawn.set("front-plot", drawFront);
  drawFront();
  frontEvents();
  makePicker();
  whenSeen("parallel-plot", () => {
    drawParallel();
    const plot = byId("parallel-plot");
    if (!plot.dataset.watched) {
      plot.dataset.watched = "yes";
      plot.on("plotly_restyle", readBrush);
    }
  });
} else {
  for (const id of ["front", "pick", "hyperparameters"]) hide(id);
}
if (content.growth && content.growth.epochs.length > 1) {
  byId("growth-note").textContent = `Volume that the front dominates within the reference point ${content.reference_point}, as trials ended; a projection counts with its trial.`;
  whenSeen("growth-plot", drawGrowth);
} else hide("growth");
if (content.importance) {
  byId("importance-note").textContent = content.importance_note;
  whenSeen("importance-plot", drawImportance);
} else byId("importance-plot").parentElement.hidden = true;
if (content.networks.length) makeNetworks();
else hide("networks");
if (content.table1) {
  const table = byId("table1-table");
  byId("table1").hidden = false;
  table.append(make("thead", {}, make("tr", {}, make("th", { textContent: "" }), ...content.table1.names.map((name) => make("th", { scope: "col", textContent: name })))));
  const body = make("tbody");
  for (const [title, cells] of content.table1.rows) {
    body.append(make("tr", { className: title.startsWith(" ") ? "inner" : "" }, make("th", { scope: "row", textContent: title.trim() }), ...cells.map((cell) => make("td", { textContent: cell }))));
  }
  table.append(body);
  byId("table1-note").textContent = content.table1.note;
}
for (const metric of content.metrics.filter((m) => metricNames.includes(m.name))) {
  byId("glossary").append(make("dt", { textContent: metric.name }), make("dd", { textContent: metric.description + better(metric.name) }));
}
for (const [term, text] of content.reading) byId("glossary").append(make("dt", { textContent: term }), make("dd", { textContent: text }));
for (const section of document.querySelectorAll("main > section")) {
  if (section.hidden) continue;
  byId("sections").append(make("a", { href: `#${section.id}`, textContent: section.querySelector("h2").textContent }));
}
const drawAll = () => { for (const how of [...drawn.values()]) how(); };
dark.addEventListener("change", drawAll);
addEventListener("beforeprint", () => {
  printing = true;
  for (const [id, how] of pending) if (!drawn.has(id) && !byId(id).closest("[hidden]")) how();
  drawAll();
});
addEventListener("afterprint", () => { printing = false; drawAll(); });
})();
