// The joint trade: the first objective against each of the others, every study in its own color and
// symbol.

const hover = (i) => [
  `<b>${plain(points.network[i])}</b>`,
  points.is_joint[i] ? "on the joint front" : "not on the joint front",
  ...Object.keys(points.metrics)
    .filter((name) => points.metrics[name][i] !== null)
    .map((name) => `${plain(titleOf(name))}: ${reportedText(name, points.metrics[name][i])}`),
].join("<br>");
const indices = points.network.map((_, i) => i);
const studyTraces = (s, x, y, steps) => {
  const own = indices.filter((i) => points.study[i] === s);
  const trace = (ids, marker) => ({
    type: "scatter",
    mode: "markers",
    name: plain(studies[s].name),
    customdata: ids,
    x: ids.map((i) => x[i]),
    y: ids.map((i) => y[i]),
    text: ids.map(hover),
    hovertemplate: "%{text}<extra></extra>",
    marker: { color: lineColor(s), line: { color: lineColor(s), width: 1.5 }, ...marker },
  });
  const others = own.filter((i) => !points.is_joint[i]);
  const joint = own.filter((i) => points.is_joint[i]);
  const onSteps = new Set(steps.ids);
  return [
    trace(others, { symbol: `${symbolOf(s)}-open`, size: 7, opacity: 0.55 }),
    trace(joint, {
      symbol: symbolOf(s), size: 12, opacity: joint.map((i) => (onSteps.has(i) ? 1 : 0.45)),
    }),
  ];
};
const drawTrade = (id, nameX, nameY) => {
  const [x, y] = [points.metrics[nameX], points.metrics[nameY]];
  const visible = indices.filter((i) => shown.has(points.study[i]));
  const joint = visible.filter((i) => points.is_joint[i]);
  const steps = stepsOf(joint, x, y, directionOf[nameX], directionOf[nameY]);
  // The joint front above all others.
  const traces = [...shown].sort().map((s) => studyTraces(s, x, y, steps));
  react(id, [...traces.map(([others]) => others), stepsTrace(steps, x, y), ...traces.map(([, own]) => own)], {
    hovermode: "closest", xaxis: metricAxis(nameX, x), yaxis: metricAxis(nameY, y),
  });
};
const makeShown = () => {
  studies.forEach((study, s) => {
    const box = checkbox(shown, s, drawAll);
    byId("shown").append(make("label", {}, box, ...nameOf(s)));
  });
};
const makeTrade = () => {
  const [first, ...others] = objectives;
  for (const name of others) {
    const id = `trade-${name.replace(/_/g, "-")}-plot`;
    const label = `${titleOf(first)} against ${titleOf(name)}; the joint front is a table below`;
    const plot = make("div", { id, className: "plot tall" });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", label);
    byId("trade-plots").append(make("figure", {}, plot));
    drawFirst(id, () => drawTrade(id, name, first));
  }
  byId("trade-note").textContent = "Filled: on the joint front. Open: the other networks of a study"
    + " that a front admits. \u2191 more is better, \u2193 less is. The dotted line: the best of "
    + "these two; pale filled ones are on the joint front for the others only.";
};
