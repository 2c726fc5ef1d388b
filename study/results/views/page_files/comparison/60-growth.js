// Hypervolume of each study as its trials ended.

const grown = studies.map((_, s) => s).filter((s) => studies[s].growth);
const drawGrowth = (id, by, title) => {
  const traces = grown.filter((s) => shown.has(s)).map((s) => {
    const { hypervolume, [by]: spent } = studies[s].growth;
    return {
      type: "scatter",
      mode: "lines+markers",
      name: plain(studies[s].name),
      line: { shape: "hv", color: lineColor(s), width: 2, dash: dashOf(s) },
      // Its symbol at its end.
      marker: {
        symbol: symbolOf(s), color: lineColor(s), size: spent.map((_, k) => (
          k === spent.length - 1 ? 12 : 0)),
      },
      x: spent,
      y: hypervolume,
      hovertemplate: `%{x:.4g} ${by}: hypervolume %{y:.4g}<extra>${plain(studies[s].name)}</extra>`,
    };
  });
  react(id, traces, { xaxis: axis(title, { rangemode: "tozero" }), yaxis: axis("hypervolume") });
};
const makeGrowth = () => {
  whenSeen("epochs-plot", () => drawGrowth("epochs-plot", "epochs", "epochs trained, of all trials"));
  whenSeen("hours-plot", () => (
    drawGrowth("hours-plot", "hours", "hours in which a trial ran")
  ));
  byId("growth-note").textContent = "Volume that a front dominates within the one reference point "
    + `(${content.reference_point}), as trials ended; each training by itself, and a projection with `
    + "its trial.";
};
