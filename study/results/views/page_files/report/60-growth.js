// How the front grew.

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
    uirevision: by,
    xaxis: axis(spent, { rangemode: "tozero" }),
    yaxis: axis("hypervolume"),
  });
};
const makeGrowth = () => {
  byId("growth-by").value = before.growthBy ?? "epochs";
  byId("growth-by").onchange = () => draw("growth-plot");
  byId("growth-note").textContent = "Volume that the front dominates within the reference point "
    + `(${content.reference_point}), as trials ended; a projection counts with its trial.`;
  whenSeen("growth-plot", drawGrowth);
};
