// The trade: the figure of all points, and all of the point that is pointed at or chosen.

const MANY = 1500; // beyond that the two-dimensional figure is drawn by WebGL
const FEW = 400; // of those, which are drawn before WebGL has started
const MOST_LINES = 30; // of trainings; more would be a tangle
const MOST_BARS = 60; // intervals of more points would be one gray

// What a point says

const hover = (i) => [
  `<b>${plain(points.network[i])}</b>  ${markName(points.mark[i])}`,
  ...reported(objectives).filter((name) => points[name][i] !== null)
    .map((name) => `${plain(titleOf(name))}: ${withError(name, i)}`),
].join("<br>");
const note = (text) => make("p", { className: "note", textContent: text });
const facts = (pairs) => {
  const list = make("dl", { className: "facts" });
  for (const [key, value] of pairs) {
    list.append(make("dt", {}, ...titled(key)), make("dd", { textContent: value }));
  }
  return list;
};
// Of the confidence interval of the accuracy.
const intervalEnds = { low: points[`${content.accuracy}_low`], high: points[`${content.accuracy}_high`] };
const howSure = (i) => {
  const [low, high] = [intervalEnds.low[i], intervalEnds.high[i]];
  const share = points.front_share[i];
  const sentences = [];
  if (low !== null) {
    sentences.push(
      `${titleOf(content.accuracy)} between ${low.toFixed(3)} and ${high.toFixed(3)} with 95 % `
      + `confidence, on ${content.n_val_images} images.`,
    );
  }
  if (share !== null) {
    sentences.push(`${percent(share)} likely to be on the front if measured again.`);
  }
  return sentences.length ? [note(sentences.join(" "))] : [];
};
let isAllOpen = before.isAllOpen ?? false; // what is beside the objectives, of the next point as well
// Marks of networks that have files, with a proof.
const WITH_PROOF = new Set(["front", "dominated", "infeasible", "not_measured", "control"]);
// All of a point: what it is for and what is proven, what was measured, how it was made.
const described = (i) => {
  const mark = points.mark[i];
  const measured = metricNames.filter((name) => points[name][i] !== null);
  const as = content.recommended.find((one) => one.network === points.network[i]);
  return [
    make("h3", { textContent: points.network[i] }),
    note(`${markName(mark)}: ${MARKS[mark].says}`),
    ...(as ? [
      make("p", { textContent: `${as.aliases.join(", ")}: ${as.sentence}` }),
      make("p", { textContent: as.proof }),
    ] : []),
    ...(WITH_PROOF.has(mark)
      ? [make("pre", { textContent: verifyCommand(points.network[i], content.server) })] : []),
    ...howSure(i),
    facts(reported(objectives).filter((name) => points[name][i] !== null)
      .map((name) => [name, withError(name, i)])),
    facts(paramNames.map((name) => [name, formatted(points[name][i])])),
    make("details", { open: isAllOpen, ontoggle: (event) => { isAllOpen = event.target.open; } },
      make("summary", { textContent: "Everything that was measured" }),
      facts(measured.filter((name) => !objectives.includes(name))
        .map((name) => [name, withError(name, i)]))),
    ...(originOf(i) ? [make("p", { textContent: originOf(i) })] : []),
    ...(points.reason[i] ? [make("p", { textContent: points.reason[i] })] : []),
    ...content.networks.filter((one) => one.label === points.network[i] && one.image !== null)
      .map(reconstruction),
    make("p", {}, "run ", runLink(i)),
  ];
};
const detail = (i) => byId("detail").replaceChildren(...(
  typeof i === "number" ? described(i)
    : [note("Point at a network, or choose one in the table, to see all of it.")]
));

// The figure

const isSpatial = () => state.z !== "";
const coordinates = (ids) => ({
  x: ids.map((i) => column(state.x)[i]),
  y: ids.map((i) => column(state.y)[i]),
  ...(isSpatial() ? { z: ids.map((i) => column(state.z)[i]) } : {}),
});
// The staircase of some points, by the columns of the axes; null where there is none.
const staircase = (ids) => {
  if (isSpatial() || state.x === state.y) return null;
  if (![state.x, state.y].every((name) => directionOf[name] && !paramNames.includes(name))) {
    return null;
  }
  return stepsOf(ids, column(state.x), column(state.y), directionOf[state.x], directionOf[state.y]);
};
// Without projections the networks of a training are members of its family.
const isFamily = (ids) => ids.every((i) => points.projected_to[i] === null);
// A training's networks in the order of its line: along its rungs, or those of a family that are the
// best of it on these axes.
const along = (ids) => {
  const bound = (i) => points.projected_to[i] ?? Infinity;
  return isFamily(ids) ? staircase(ids)?.ids ?? [] : [...ids].sort((a, b) => bound(b) - bound(a));
};
// A line for each training: one trace of those with a network on the front, and a fainter one of the
// others.
const trainingTraces = (placed) => {
  const byTrial = new Map();
  for (const i of placed) {
    if (points.mark[i] !== "front" && points.mark[i] !== "dominated") continue;
    if (!byTrial.has(points.trial_id[i])) byTrial.set(points.trial_id[i], []);
    byTrial.get(points.trial_id[i]).push(i);
  }
  const trainings = [...byTrial.values()].filter((ids) => ids.length > 1);
  const isOfFront = (ids) => ids.some((i) => points.mark[i] === "front");
  const lines = (chosen, opacity) => {
    const ordered = chosen.slice(0, MOST_LINES).flatMap((ids) => [...along(ids), null]);
    const at = (name) => ordered.map((i) => (i === null ? null : column(name)[i]));
    return {
      type: "scatter", mode: "lines", hoverinfo: "skip", x: at(state.x), y: at(state.y), opacity,
      line: { color: colorOf("front"), width: 1.5 },
    };
  };
  return [
    lines(trainings.filter((ids) => !isOfFront(ids)), 0.15),
    lines(trainings.filter(isOfFront), 0.5),
  ];
};
// Of the accuracy, where an axis shows it: by the number of images.
const intervalsOf = (ids, bars) => {
  const one = (name) => {
    if (name !== content.accuracy || !content.n_val_images || bars.size > MOST_BARS) return {};
    const value = column(name);
    const far = (i, end) => (bars.has(i) ? Math.abs(end[i] - value[i]) : null);
    return {
      type: "data", symmetric: false, color: css("--soft"), thickness: 1, width: 3,
      array: ids.map((i) => far(i, intervalEnds.high)), arrayminus: ids.map((i) => far(i, intervalEnds.low)),
    };
  };
  return { error_x: one(state.x), error_y: one(state.y) };
};
// Of ten, at the color scale.
const MOST_POWERS = 8;
const colored = (ids) => {
  if (!state.color) return {};
  const values = column(state.color);
  const narrow = isNarrow();
  const place = narrow
    ? { orientation: "h", y: 1.02, yanchor: "bottom", thickness: 10, len: 0.9 }
    : { thickness: 12, len: 0.9 };
  // Plotly's color scales are linear.
  const scaled = (value) => (isLogarithmic(state.color) && value !== null ? Math.log10(value) : value);
  const colors = ids.map((i) => scaled(values[i]));
  const [low, high] = extent(colors.filter((value) => value !== null));
  const same = low === high;
  const powers = [];
  if (isLogarithmic(state.color)) {
    const step = Math.ceil((high - low) / MOST_POWERS);
    for (let power = Math.ceil(low); power <= high; power += step) powers.push(power);
  }
  return {
    color: colors,
    colorscale: "Viridis",
    ...(same ? { cmin: low - 0.5, cmax: high + 0.5 } : {}),
    showscale: true,
    colorbar: {
      title: { text: axisTitle(state.color, ARROWS[directionOf[state.color]] || ""),
        side: narrow ? "top" : "right" },
      ...(powers.length ? { tickvals: powers, ticktext: powers.map((power) => `10<sup>${power}</sup>`) } : {}),
      ...place,
    },
    line: { width: 1, color: css("--ink") },
  };
};
const markTraces = (placed, steps) => {
  const flat = placed.length > MANY ? "scattergl" : "scatter";
  const onSteps = new Set(steps ? steps.ids : []);
  const traces = [];
  // The front last, above the others.
  for (const mark of Object.keys(MARKS).reverse()) {
    const ids = placed.filter((i) => points.mark[i] === mark);
    if (!ids.length) continue;
    const look = MARKS[mark];
    const isFront = mark === "front";
    // Those that are on the front only for what is not drawn are pale.
    const faint = (i) => (steps && !onSteps.has(i) ? 0.5 : 1);
    traces.push({
      type: isSpatial() ? "scatter3d" : flat,
      mode: "markers",
      name: markName(mark),
      customdata: ids,
      ...coordinates(ids),
      text: ids.map(hover),
      hovertemplate: "%{text}<extra></extra>",
      ...(isFront && !isSpatial() ? intervalsOf(ids, onSteps) : {}),
      marker: {
        opacity: isFront && !isSpatial() ? ids.map(faint) : 0.7,
        color: colorOf(mark),
        symbol: look.symbol,
        size: look.size * (isSpatial() ? 0.8 : 1),
        line: { width: 1.5, color: colorOf(mark) },
        ...(isFront ? colored(ids) : {}),
      },
    });
  }
  return traces;
};
// What is recommended, written beside its points.
const names = (placed) => {
  if (isSpatial() || isNarrow()) return [];
  const at = (name, i) => (isLogarithmic(name) ? Math.log10(column(name)[i]) : column(name)[i]);
  return content.recommended
    .map((one) => [one, points.network.indexOf(one.network)])
    .filter(([, i]) => placed.includes(i))
    .map(([one, i], k) => ({
      x: at(state.x, i), y: at(state.y, i), text: one.aliases.join(", ").replace(/-/g, " "),
      ax: 46, ay: 34 + 22 * k, xanchor: "left", arrowwidth: 1, arrowhead: 0, standoff: 9,
      font: { color: css("--ink"), size: 13 }, arrowcolor: css("--soft"),
      bgcolor: css("--card"), borderpad: 2,
    }));
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
// WebGL reads no HTML, and cuts a long title.
const spatialAxis = (name) => ({
  ...metricAxis(name, column(name)),
  title: { text: (shorts[name] || name) + (ARROWS[directionOf[name]] || "") },
});
const frontAxes = () => {
  if (!isSpatial()) {
    return {
      xaxis: metricAxis(state.x, column(state.x)), yaxis: metricAxis(state.y, column(state.y)),
    };
  }
  const [xaxis, yaxis, zaxis] = [state.x, state.y, state.z].map(spatialAxis);
  // Titles of a narrow figure have no room beside it.
  const far = isNarrow() ? 2 : 1.6;
  const camera = { eye: { x: far, y: far, z: 0.6 * far }, center: { x: 0, y: 0, z: -0.15 } };
  return {
    scene: { xaxis, yaxis, zaxis, camera },
    margin: { l: 0, r: 0, t: 0, b: 0 },
  };
};
// WebGL takes a second to start. Until then the front is drawn, and some of the others.
let isWhole = before.isWhole ?? false;
const sampled = (ids) => {
  const step = Math.ceil(ids.length / FEW);
  return ids.filter((i, k) => points.mark[i] === "front" || k % step === 0);
};
const drawFront = () => {
  const kept = visible();
  const axes = [state.x, state.y, ...(isSpatial() ? [state.z] : [])];
  const all = kept.filter((i) => axes.every((name) => column(name)[i] !== null));
  const placed = isWhole || all.length <= MANY ? all : sampled(all);
  const steps = staircase(placed.filter((i) => points.mark[i] === "front"));
  const traces = isSpatial() ? [] : trainingTraces(placed);
  if (steps) traces.push(stepsTrace(steps, column(state.x), column(state.y)));
  traces.push(...markTraces(placed, steps));
  if (state.chosen !== null && placed.includes(state.chosen)) traces.push(chosenTrace());
  react("front-plot", traces, {
    hovermode: "closest",
    uirevision: axes.join(),
    annotations: names(placed),
    ...frontAxes(),
  });
  noteFront(all.length, kept.length - all.length, steps);
  const plot = byId("front-plot");
  if (!plot.on) return; // nothing is drawn yet
  if (placed !== all) {
    isWhole = true;
    requestAnimationFrame(() => setTimeout(() => { if (!leaving.signal.aborted) drawFront(); }));
  }
  plot.removeAllListeners();
  plot.on("plotly_hover", (event) => detail(event.points[0].customdata));
  plot.on("plotly_unhover", () => detail(state.chosen));
  plot.on("plotly_click", (event) => {
    const i = event.points[0].customdata;
    if (typeof i !== "number") return;
    choose(i);
    openRun(i);
  });
};
const noteFront = (nPlaced, nMissing, steps) => {
  const missing = nMissing ? `; ${nMissing} have no value on these axes` : "";
  const line = steps
    ? " Each line is a training run: the best networks of its family on these axes, or its network"
      + " and then the same one scaled down step by step. The dotted line is the"
      + " best of these two; pale points are on the front for other objectives only."
    : "";
  const click = content.run_page
    ? "A click opens the run in MLflow."
    : "A click shows the point; no tracking server is known that could show its run.";
  byId("front-note").replaceChildren(
    `${nPlaced} of ${n} networks; \u2191 more is better, \u2193 less is${missing}.${line} ${click}`,
    ...compareLink(),
  );
};
const compareLink = () => {
  if (!content.compare_page) return [];
  const text = "Compare the front in MLflow.";
  return [" ", outsideLink(content.compare_page, text, { id: "compare" })];
};

// Choosing

// The chosen network's training, along the axis across.
const showAlong = () => {
  const chosen = state.chosen;
  const ids = points.trial_id.flatMap((trial, i) => (
    chosen !== null && trial === points.trial_id[chosen] && isCandidate(i) ? [i] : []
  )).sort((a, b) => column(state.x)[a] - column(state.x)[b]);
  const slider = byId("along");
  slider.parentElement.hidden = ids.length < 2 || !ids.includes(chosen);
  slider.max = ids.length - 1;
  slider.value = ids.indexOf(chosen);
  slider.oninput = () => choose(ids[slider.value]);
};
const choose = (i) => {
  state.chosen = i;
  detail(i);
  showAlong();
  draw("front-plot");
  remember();
  // In place, so that the keyboard stays where it is.
  for (const row of byId("point-table").tBodies[0].querySelectorAll("tr[data-point]")) {
    row.classList.toggle("chosen", Number(row.dataset.point) === i);
  }
};
const pointButton = (i, onclick = () => choose(i)) => (
  make("button", { type: "button", textContent: points.network[i], onclick })
);
const swatch = (mark) => make("span", {
  className: "swatch", textContent: SWATCHES[MARKS[mark].symbol], style: `color: ${colorOf(mark)}`,
});
const makeMarks = () => {
  const counts = {};
  for (const mark of points.mark) counts[mark] = (counts[mark] || 0) + 1;
  for (const mark of Object.keys(MARKS).filter((one) => counts[one])) {
    const box = checkbox(state.marks, mark, redraw);
    box.dataset.mark = mark;
    const text = ` ${markName(mark)} (${counts[mark]})`;
    byId("marks").append(make("label", { title: MARKS[mark].says }, box, swatch(mark), text));
  }
};
const NO_AXIS = { z: "none (2D)", color: "by mark" };
const makeAxes = () => {
  for (const key of AXES) {
    const select = byId(`axis-${key}`);
    fill(select, numeric, state[key], key in NO_AXIS ? NO_AXIS[key] : null);
    select.value = state[key];
    select.onchange = () => {
      state[key] = select.value;
      showAlong();
      draw("front-plot");
      remember();
    };
  }
};
const makeFront = () => drawFirst("front-plot", drawFront);
