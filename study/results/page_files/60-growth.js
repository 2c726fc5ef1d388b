// How the front grew, and how the trainings behind it learned.

const drawGrowth = () => {
  const by = byId("growth-by").value;
  const spent = by === "hours"
    ? "hours in which a trial ran"
    : "epochs trained, of all trials";
  react("growth-plot", [{
    type: "scatter",
    mode: "lines",
    line: { shape: "hv", color: colorOf("front"), width: 2 },
    x: content.growth[by],
    y: content.growth.hypervolume,
    hovertemplate: "%{x}: hypervolume %{y:.4g}<extra></extra>",
  }], {
    xaxis: axis(spent, { rangemode: "tozero" }),
    yaxis: axis("hypervolume"),
  });
};
const makeGrowth = () => {
  byId("growth-by").onchange = () => draw("growth-plot");
  byId("growth-note").textContent = "Volume that the front dominates within the reference point "
    + `(${content.reference_point}), as trials ended; a projection counts with its trial.`;
  whenSeen("growth-plot", drawGrowth);
};

const drawCurves = () => {
  react("curves-plot", content.curves.map(({ label, epochs, values }, k) => ({
    type: "scatter",
    mode: "lines+markers",
    name: plain(label),
    line: { ...lineLook(k), width: 1.5 },
    marker: { size: 4 },
    x: epochs,
    y: values,
    hovertemplate: `epoch %{x}: %{y:.4f}<extra>${plain(label)}</extra>`,
  })), {
    xaxis: axis("epoch", { rangemode: "tozero" }),
    yaxis: axis(axisTitle(content.accuracy)),
    showlegend: content.curves.length <= 6,
    legend: { orientation: "h", y: -0.25, yanchor: "top", x: 0 },
    margin: { l: 60, r: 15, t: 15, b: 90 },
  });
};
const makeCurves = () => whenSeen("curves-plot", drawCurves);
