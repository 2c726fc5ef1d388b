// The look of all figures, and when each is drawn.

// Okabe and Ito's colors, darker where they are drawn on white.
const LINES = {
  light: ["#0072b2", "#c04f00", "#00795a", "#a3487a", "#8a6200", "#3a7ca5", "#6b7280"],
  dark: ["#56b4e9", "#f0803c", "#1fc79a", "#cc79a7", "#e69f00", "#9fd3f5", "#a9b1bc"],
};
const lineColor = (k) => {
  const colors = dark.matches && !printing ? LINES.dark : LINES.light;
  return colors[k % colors.length];
};
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const lineLook = (k) => ({
  color: lineColor(k),
  dash: DASHES[Math.floor(k / LINES.light.length) % DASHES.length],
});
const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star"];
// As the symbols of a figure look in text.
const SWATCHES = {
  circle: "\u25cf", "circle-open": "\u25cb", square: "\u25a0", "square-open": "\u25a1",
  diamond: "\u25c6", "diamond-open": "\u25c7", "triangle-up": "\u25b2", x: "\u2715",
  cross: "\u271a", star: "\u2605",
};
// Figures are drawn before the page's own colors change for print: on white, whatever the theme.
const ON_PAPER = {
  "--ink": "#000000", "--soft": "#333333", "--line": "#999999", "--card": "#ffffff",
};
let printing = false;
const dark = matchMedia("(prefers-color-scheme: dark)");
const css = (name) => (
  (printing && ON_PAPER[name])
  || getComputedStyle(document.documentElement).getPropertyValue(name).trim()
);

const SMALL = 'style="font-size:0.85em"';
// A title for people, below it in small print the name that is typed.
const axisTitle = (name, arrow = "") => {
  const title = titleOf(name);
  const small = title === name ? "" : `<br><span ${SMALL}>${plain(name)}</span>`;
  return `${plain(title)}${arrow}${small}`;
};
const axis = (text, more = {}) => ({
  title: { text, standoff: 8 },
  gridcolor: css("--line"),
  zerolinecolor: css("--line"),
  linecolor: css("--line"),
  automargin: true,
  ...more,
});
const layout = (more) => ({
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { color: css("--ink"), family: "system-ui, sans-serif", size: 14 },
  margin: { l: 60, r: 15, t: 15, b: 50 },
  hoverlabel: { align: "left" },
  showlegend: false,
  uirevision: "kept", // a zoom, when a figure is drawn again
  ...more,
});
// Nothing of a study goes to Plotly's makers, who would share it.
const CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendChartToCloud", "sendDataToCloud", "lasso2d", "select2d", "toImage"],
};

const isNarrow = () => innerWidth < 560;

// Logarithmic axes

const extent = (values) => {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
};
// Bounds and errors run over orders of magnitude; fractions that are right do not.
const isLogarithmicOf = (name, column) => {
  if (directionOf[name] === "maximize") return false;
  const values = column.filter((value) => typeof value === "number");
  if (!values.length || !values.every((value) => value > 0)) return false;
  const [low, high] = extent(values);
  return high > 30 * low;
};
// Ticks at 1, 2 and 5 times a power of ten, with their numbers, and the others without.
const ticks = (values) => {
  const [low, high] = extent(values.filter((value) => value !== null));
  const places = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (let k = 1; k <= 9; k++) places.push(Number(`${k}e${e}`));
  }
  const few = Math.log10(high / low) < 3 && !isNarrow();
  return places.map((at) => {
    const digit = Number(at.toExponential()[0]);
    const hasNumber = digit === 1 || (few && (digit === 2 || digit === 5));
    return { at, text: hasNumber ? formatted(at) : "" };
  });
};
const logarithmic = (values) => {
  const placed = ticks(values);
  return {
    type: "log",
    tickvals: placed.map((tick) => tick.at),
    ticktext: placed.map((tick) => tick.text),
  };
};
const metricAxis = (name, values) => axis(
  axisTitle(name, ARROWS[directionOf[name]] || ""),
  isLogarithmicOf(name, values) ? logarithmic(values) : {},
);

// The best that there is of two columns at once, as a line of steps: which points are on it, by
// their x, and its shape.
const stepsOf = (points, x, y, directionOfX, directionOfY) => {
  const [sx, sy] = [directionOfX, directionOfY].map((way) => (way === "maximize" ? -1 : 1));
  const sorted = [...points].sort((a, b) => sx * (x[a] - x[b]) || sy * (y[a] - y[b]));
  let best = Infinity;
  const ids = sorted.filter((i) => {
    if (sy * y[i] >= best) return false;
    best = sy * y[i];
    return true;
  });
  ids.sort((a, b) => x[a] - x[b]);
  return { ids, shape: sx > 0 ? "hv" : "vh" };
};
const stepsTrace = ({ ids, shape }, x, y) => ({
  type: "scatter", mode: "lines", hoverinfo: "skip",
  x: ids.map((i) => x[i]), y: ids.map((i) => y[i]),
  line: { shape, color: css("--soft"), width: 1.5, dash: "dot" },
});

// Drawing

const drawn = new Map(); // figure -> how to draw it, once it came into sight
const pending = new Map(); // figure -> how to draw it for the first time
const draw = (id) => { if (drawn.has(id)) drawn.get(id)(); };
const drawAll = () => { for (const how of [...drawn.values()]) how(); };
const drawFirst = (id, how) => {
  drawn.set(id, how);
  how();
};
const whenSeen = (id, how) => {
  const start = () => {
    watcher.disconnect();
    drawFirst(id, how);
  };
  const watcher = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) start();
  }, { rootMargin: "300px" });
  watcher.observe(byId(id));
  leaving.signal.addEventListener("abort", () => watcher.disconnect());
  pending.set(id, start);
};
// The button outlives this script, which a live page runs again for each content: with another
// function a figure would be made anew, without its listeners and its zoom.
const withSaving = () => ({
  ...CONFIG,
  modeBarButtonsToAdd: [globalThis.savesAsSvg ??= {
    name: "Save as SVG",
    icon: Plotly.Icons.camera,
    click: (plot) => Plotly.downloadImage(
      plot, { format: "svg", filename: plot.id, width: null, height: null }),
  }],
});
const react = (id, traces, more) => {
  if (!("Plotly" in globalThis)) return; // all is drawn again once it is there
  try {
    return Plotly.react(byId(id), traces, layout(more), withSaving());
  } catch (error) {
    byId(id).textContent = `This figure cannot be drawn here: ${error.message || error}`;
    throw error;
  }
};
