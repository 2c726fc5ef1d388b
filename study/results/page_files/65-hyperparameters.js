// Hyperparameters: parallel axes, and how much each of them accounts for.

// An axis has its label, the place of each point on it, and what else Plotly gets.
const linearDimension = (name) => (
  { label: plain(name), get: (i) => column(name)[i], more: {} }
);
const logarithmicDimension = (name) => {
  const values = column(name);
  const [low, high] = extent(values.filter((value) => value !== null));
  const placed = ticks(values).filter((tick) => tick.text && low <= tick.at && tick.at <= high);
  return {
    label: plain(name),
    get: (i) => (values[i] === null ? null : Math.log10(values[i])),
    more: {
      tickvals: placed.map((tick) => Math.log10(tick.at)),
      ticktext: placed.map((tick) => tick.text),
    },
  };
};
const choiceDimension = (name) => {
  const texts = column(name).map(formatted);
  const choices = [...new Set(texts)];
  return {
    label: plain(name),
    get: (i) => choices.indexOf(texts[i]),
    more: { tickvals: choices.map((_, k) => k), ticktext: choices.map(plain) },
  };
};
const dimension = (name) => {
  if (!isNumeric(name)) return choiceDimension(name);
  return isLogarithmic(name) ? logarithmicDimension(name) : linearDimension(name);
};
// Ranges of an axis that were kept before the figure is drawn again.
const keptRange = (k) => {
  const kept = state.ranges.find((range) => range.k === k);
  if (!kept) return {};
  return { constraintrange: kept.ranges.length === 1 ? kept.ranges[0] : kept.ranges };
};
let parallelDimensions = [];
const drawParallel = () => {
  const dimensions = [...paramNames, ...reported(objectives)].map(dimension);
  const ids = visible(false).filter((i) => dimensions.every((d) => d.get(i) !== null));
  const first = dimension(objectives[0]);
  parallelDimensions = dimensions;
  react("parallel-plot", [{
    type: "parcoords",
    labelangle: -15,
    labelside: "top",
    line: {
      color: ids.map(first.get),
      colorscale: "Cividis",
      showscale: true,
      colorbar: { title: { text: plain(objectives[0]) }, thickness: 12, ...first.more },
    },
    dimensions: dimensions.map((d, k) => (
      { label: d.label, values: ids.map(d.get), ...d.more, ...keptRange(k) }
    )),
    unselected: { line: { color: css("--line"), opacity: 0.3 } },
  }], { margin: { l: 50, r: 30, t: 80, b: 25 } });
};
const readRanges = () => {
  state.ranges = byId("parallel-plot").data[0].dimensions.flatMap((d, k) => {
    if (!d.constraintrange) return [];
    const ranges = Array.isArray(d.constraintrange[0]) ? d.constraintrange : [d.constraintrange];
    return [{ k, get: parallelDimensions[k].get, ranges }];
  });
  state.page = 0;
  draw("front-plot");
  drawTable();
};
const makeParallel = () => whenSeen("parallel-plot", () => {
  drawParallel();
  const plot = byId("parallel-plot");
  if (plot.dataset.watched) return;
  plot.dataset.watched = "yes";
  plot.on("plotly_restyle", readRanges);
});

const drawImportance = () => {
  const traces = Object.entries(content.importance).map(([objective, shares], k) => ({
    type: "bar",
    name: objective,
    x: Object.keys(shares),
    y: Object.values(shares),
    marker: {
      color: LINES[k % LINES.length],
      pattern: { shape: ["", "/", ".", "x"][k % 4] },
    },
    hovertemplate: `${plain(objective)}: %{y:.0%}<extra>%{x}</extra>`,
  }));
  react("importance-plot", traces, {
    barmode: "group",
    xaxis: axis(""),
    yaxis: axis("share of the variance", { tickformat: ".0%", range: [0, 1] }),
  });
};
const makeImportance = () => {
  byId("importance-note").textContent = content.importance_note;
  whenSeen("importance-plot", drawImportance);
};
