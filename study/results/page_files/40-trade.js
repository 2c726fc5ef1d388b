// The trade: the figure of all points, and all of the point that is pointed at or chosen.

const MANY = 1500; // beyond that the two-dimensional figure is drawn by WebGL
const ARROWS = { maximize: " \u2191", minimize: " \u2193" };

// What a point says

const hoverText = (i) => {
  const lines = [`<b>${plain(points.label[i])}</b>  ${markName(points.mark[i])}`];
  for (const name of paramNames) {
    lines.push(`${plain(name)} ${plain(formatted(points.params[name][i]))}`);
  }
  for (const name of metricNames) {
    if (points.metrics[name][i] !== null) lines.push(`${name} ${withError(name, i)}`);
  }
  if (points.reason[i]) lines.push(plain(points.reason[i].slice(0, 80)));
  return lines.join("<br>");
};
const hoverTexts = new Map();
const hover = (i) => {
  if (!hoverTexts.has(i)) hoverTexts.set(i, hoverText(i));
  return hoverTexts.get(i);
};
const note = (text) => make("p", { className: "note", textContent: text });
const facts = (pairs) => {
  const list = make("dl", { className: "facts" });
  for (const [key, value] of pairs) {
    list.append(make("dt", { textContent: key }), make("dd", { textContent: value }));
  }
  return list;
};
const detail = (i) => {
  const box = byId("detail");
  if (typeof i !== "number") {
    box.replaceChildren(
      note("Point at a network, or choose one in the table, to see all of it here."),
    );
    return;
  }
  const mark = points.mark[i];
  const share = points.front_share[i];
  const measured = metricNames.filter((name) => points.metrics[name][i] !== null);
  box.replaceChildren(
    make("h3", { textContent: points.label[i] }),
    note(`${markName(mark)}: ${MARKS[mark].says}`),
    facts(paramNames.map((name) => [name, formatted(points.params[name][i])])),
    facts(measured.map((name) => [name, withError(name, i)])),
    ...(share === null ? [] : [note(`on the front in ${Math.round(100 * share)} % of draws`)]),
    ...(points.reason[i] ? [make("p", { textContent: points.reason[i] })] : []),
    make("p", {}, "run ", runLink(i)),
  );
};

// The figure

const isSpatial = () => state.z !== "";
const coordinates = (ids) => ({
  x: ids.map((i) => column(state.x)[i]),
  y: ids.map((i) => column(state.y)[i]),
  ...(isSpatial() ? { z: ids.map((i) => column(state.z)[i]) } : {}),
});
// How much larger each point is drawn, by its value in the column that was chosen for that.
const magnification = () => {
  if (!state.size) return () => 1;
  const values = column(state.size);
  const [low, high] = extent(values.filter((value) => value !== null));
  return (i) => {
    if (values[i] === null || high === low) return 1;
    return 0.6 + 1.6 * (values[i] - low) / (high - low);
  };
};
const markTraces = (placed) => {
  const flat = placed.length > MANY ? "scattergl" : "scatter";
  const scale = magnification();
  const traces = [];
  // The front last, above the others.
  for (const mark of Object.keys(MARKS).reverse()) {
    const ids = placed.filter((i) => points.mark[i] === mark);
    if (!ids.length) continue;
    const look = MARKS[mark];
    traces.push({
      type: isSpatial() ? "scatter3d" : flat,
      mode: "markers",
      name: markName(mark),
      customdata: ids,
      ...coordinates(ids),
      text: ids.map(hover),
      hovertemplate: "%{text}<extra></extra>",
      marker: {
        opacity: 0.9,
        color: colorOf(mark),
        symbol: isSpatial() ? look.symbol3d : look.symbol,
        size: ids.map((i) => look.size * scale(i) * (isSpatial() ? 0.8 : 1)),
        line: { width: 1.5, color: colorOf(mark) },
      },
    });
  }
  return traces;
};
const chosenTrace = () => ({
  type: isSpatial() ? "scatter3d" : "scatter",
  mode: "markers",
  hoverinfo: "skip",
  showlegend: false,
  ...coordinates([state.chosen]),
  marker: {
    size: isSpatial() ? 16 : 22,
    symbol: "circle-open",
    color: css("--ink"),
    line: { width: 2 },
  },
});
const columnAxis = (name) => axis(
  `${name}${ARROWS[directionOf[name]] || ""}`,
  isLogarithmic(name) ? logarithmic(column(name)) : {},
);
const frontAxes = () => {
  const [xaxis, yaxis] = [columnAxis(state.x), columnAxis(state.y)];
  if (!isSpatial()) return { xaxis, yaxis };
  const camera = { eye: { x: 1.6, y: 1.6, z: 1 } };
  return {
    scene: { xaxis, yaxis, zaxis: columnAxis(state.z), camera },
    margin: { l: 0, r: 0, t: 0, b: 0 },
  };
};
const drawFront = () => {
  const kept = visible();
  const names = [state.x, state.y, ...(isSpatial() ? [state.z] : [])];
  const placed = kept.filter((i) => names.every((name) => column(name)[i] !== null));
  const traces = markTraces(placed);
  if (state.chosen !== null && placed.includes(state.chosen)) traces.push(chosenTrace());
  react("front-plot", traces, {
    hovermode: "closest",
    uirevision: names.join(),
    ...frontAxes(),
  });
  noteFront(placed.length, kept.length - placed.length);
};
const noteFront = (nPlaced, nMissing) => {
  const missing = nMissing ? `; ${nMissing} have no value on these axes` : "";
  const click = content.run_page
    ? "A click opens the run in MLflow."
    : "A click shows the point; no tracking server is known that could show its run.";
  byId("front-note").replaceChildren(
    `${nPlaced} of ${n} points; \u2191 more is better, \u2193 less is${missing}. ${click}`,
    ...compareLink(),
  );
};
const compareLink = () => {
  if (!content.compare_page) return [];
  const text = "Compare the front in MLflow.";
  return [" ", outsideLink(content.compare_page, text, { id: "compare" })];
};

// Choosing

const choose = (i) => {
  state.chosen = i;
  detail(i);
  draw("front-plot");
  // In place, so that the keyboard stays where it is.
  for (const row of byId("point-table").tBodies[0].rows) {
    row.classList.toggle("chosen", Number(row.dataset.point) === i);
  }
};
const pointButton = (i) => (
  make("button", { type: "button", textContent: points.label[i], onclick: () => choose(i) })
);
const makeMarks = () => {
  const counts = {};
  for (const mark of points.mark) counts[mark] = (counts[mark] || 0) + 1;
  for (const mark of Object.keys(MARKS).filter((one) => counts[one])) {
    const box = checkbox(state.marks, mark, redraw);
    box.dataset.mark = mark;
    const text = ` ${markName(mark)} (${counts[mark]})`;
    byId("marks").append(make("label", { title: MARKS[mark].says }, box, text));
  }
};
const makeAxes = () => {
  const plottable = objectives.filter((name) => numeric.includes(name));
  const others = numeric.filter((name) => !plottable.includes(name));
  state.x = plottable[1] || others[0] || numeric[0];
  state.y = plottable[0] || numeric[0];
  for (const [key, none] of [["x", null], ["y", null], ["z", "none (2D)"], ["size", "all alike"]]) {
    const select = byId(`axis-${key}`);
    fill(select, numeric, state[key], none);
    select.onchange = () => {
      state[key] = select.value;
      draw("front-plot");
    };
  }
};
const makeFront = () => {
  drawFirst("front-plot", drawFront);
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
