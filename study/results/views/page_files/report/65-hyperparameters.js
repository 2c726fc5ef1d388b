// Which way the objectives go with each hyperparameter.

const drawCorrelations = () => {
  const ofObjectives = Object.entries(content.correlation);
  const names = [...new Set(ofObjectives.flatMap(([, of]) => Object.keys(of)))];
  const traces = ofObjectives.map(([objective, of], k) => {
    const there = names.filter((name) => of[name]);
    const get = (key) => there.map((name) => of[name][key]);
    // Beside each other on the line of their hyperparameter.
    const shift = 0.5 * ((k + 0.5) / ofObjectives.length - 0.5);
    return {
      type: "scatter",
      mode: "markers",
      name: titleOf(objective),
      x: get("value"),
      y: there.map((name) => names.indexOf(name) + shift),
      customdata: there.map((name) => [plain(name), of[name].low, of[name].high]),
      marker: { color: lineColor(k), symbol: SYMBOLS[k % SYMBOLS.length], size: 9 },
      error_x: {
        type: "data", symmetric: false, color: lineColor(k), thickness: 1.5, width: 0,
        array: there.map((name) => of[name].high - of[name].value),
        arrayminus: there.map((name) => of[name].value - of[name].low),
      },
      hovertemplate: `${plain(titleOf(objective))}: %{x:.2f} (%{customdata[1]:.2f} to `
        + "%{customdata[2]:.2f})<extra>%{customdata[0]}</extra>",
    };
  });
  react("correlation-plot", traces, {
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" },
    xaxis: axis("rank correlation", { range: [-1.02, 1.02], zeroline: true, zerolinewidth: 2 }),
    yaxis: axis("", {
      range: [names.length - 0.5, -0.5], tickvals: names.map((_, k) => k), ticktext: names.map(plain),
      zeroline: false, showgrid: false,
    }),
  });
};
const makeHyperparameters = () => {
  byId("correlation-note").textContent = content.correlation_note;
  whenSeen("correlation-plot", drawCorrelations);
};
