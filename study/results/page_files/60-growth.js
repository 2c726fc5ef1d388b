// How the front grew, and how the trainings behind it learned.

// As a part of the box between the reference point and the best that there could be, if it is known.
const grownText = content.box ? ".1%" : ".4g";
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
    y: content.growth.hypervolume.map((volume) => volume / (content.box || 1)),
    customdata: content.growth.hypervolume,
    hovertemplate: `%{x}: %{y:${grownText}}, hypervolume %{customdata:.4g}<extra></extra>`,
  }], {
    xaxis: axis(spent, { rangemode: "tozero" }),
    yaxis: content.box
      ? axis("hypervolume, part of the box", { tickformat: ".0%" })
      : axis("hypervolume"),
  });
};
const makeGrowth = () => {
  byId("growth-by").onchange = () => draw("growth-plot");
  const box = content.box ? ", as a part of the box from there to the best that could be" : "";
  byId("growth-note").textContent = "Volume that the front dominates within the reference point "
    + `(${content.reference_point})${box}, as trials ended; a projection counts with its trial.`;
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
