// Hyperparameters: parallel axes, and how much each of them accounts for.

// An axis has its label, the place of each point on it, and what else Plotly gets.
// The ends of an axis are those of its space, or of the values where there are others; both have
// their number, and those between them stand where there is room.
const ends = (name) => {
  const values = column(name).filter((value) => value !== null);
  const space = content.params.find((param) => param.name === name) || {};
  const all = [...extent(values), ...(space.low === undefined ? [] : [space.low, space.high])];
  return extent(all);
};
const between = (low, high, places) => {
  const room = (high - low) / 12;
  return places.filter((at) => low + room < at && at < high - room);
};
// Round numbers, about four of them.
const evenly = (low, high) => {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const places = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) places.push(at);
  return places;
};
const scaled = (name, to, from) => {
  const [low, high] = ends(name).map(to);
  const same = low === high;
  const range = same ? [low - 0.5, high + 0.5] : [low, high];
  const places = to === Math.log10
    ? ticks(ends(name)).filter((tick) => tick.text).map((tick) => to(tick.at))
    : evenly(low, high);
  const tickvals = same ? [low] : [low, ...between(low, high, places), high];
  return {
    label: axisTitle(name),
    get: (i) => (column(name)[i] === null ? null : to(column(name)[i])),
    more: { range, tickvals, ticktext: tickvals.map((at) => formatted(+from(at).toPrecision(3))) },
  };
};
const isOnLogScale = (name) => {
  const space = content.params.find((param) => param.name === name);
  return space && space.low !== undefined ? space.log : isLogarithmic(name);
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
  return isOnLogScale(name)
    ? scaled(name, Math.log10, (at) => 10 ** at)
    : scaled(name, (value) => value, (at) => at);
};
// Ranges of an axis that were kept before the figure is drawn again.
const keptRange = (k) => {
  const kept = state.ranges.find((range) => range.k === k);
  if (!kept) return {};
  return { constraintrange: kept.ranges.length === 1 ? kept.ranges[0] : kept.ranges };
};
let parallelDimensions = [];
const drawParallel = () => {
  const dimensions = parallelNames.map(dimension);
  const font = { color: css("--ink"), size: 14 };
  const ids = visible(false).filter((i) => dimensions.every((d) => d.get(i) !== null));
  const first = dimension(objectives[0]);
  parallelDimensions = dimensions;
  react("parallel-plot", [{
    type: "parcoords",
    labelside: "top",
    labelfont: font,
    tickfont: { ...font, size: 13 },
    rangefont: { ...font, size: 1, color: "rgba(0,0,0,0)" }, // the ends are among the ticks
    line: {
      color: ids.map(first.get),
      colorscale: "Cividis",
      showscale: true,
      colorbar: {
        title: { text: axisTitle(objectives[0]), side: "right" }, thickness: 12,
        tickvals: first.more.tickvals, ticktext: first.more.ticktext,
      },
    },
    dimensions: dimensions.map((d, k) => (
      { label: d.label, values: ids.map(d.get), ...d.more, ...keptRange(k) }
    )),
    unselected: { line: { color: css("--line"), opacity: 0.3 } },
  }], { margin: { l: 60, r: 30, t: 70, b: 20 } });
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
  remember();
};
const makeParallel = () => whenSeen("parallel-plot", () => {
  drawParallel();
  const plot = byId("parallel-plot");
  if (plot.dataset.watched) return;
  plot.dataset.watched = "yes";
  plot.on("plotly_restyle", readRanges);
});

const drawImportance = () => {
  const traces = Object.entries(content.importance).map(([objective, shares], k) => {
    const [low, middle, high] = ["low", "value", "high"].map(
      (key) => Object.values(shares).map((share) => share[key]),
    );
    return {
      type: "bar",
      orientation: "h",
      name: titleOf(objective),
      y: Object.keys(shares),
      x: middle,
      error_x: {
        type: "data", symmetric: false, color: css("--ink"), thickness: 1,
        array: high.map((value, j) => value - middle[j]),
        arrayminus: middle.map((value, j) => value - low[j]),
      },
      marker: {
        color: lineColor(k),
        pattern: { shape: ["", "/", ".", "x"][k % 4] },
      },
      hovertemplate: `${plain(titleOf(objective))}: %{x:.0%}<extra>%{y}</extra>`,
    };
  });
  react("importance-plot", traces, {
    barmode: "group",
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
    yaxis: axis("", { autorange: "reversed" }),
    xaxis: axis("share of variance", { tickformat: ".0%", range: [0, 1] }),
  });
};
const makeImportance = () => whenSeen("importance-plot", drawImportance);
