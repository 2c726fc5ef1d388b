// Which way the objectives go with each hyperparameter, and how much it accounts for.

const nameList = (byObjective) => [...new Set(Object.values(byObjective).flatMap(Object.keys))];
const drawCorrelations = () => {
  const names = nameList(content.correlation);
  const ofObjectives = Object.entries(content.correlation);
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
const makeHyperparameters = () => {
  const figures = [["correlation", drawCorrelations], ["importance", drawImportance]];
  const isThereAny = ([kind]) => Object.keys(content[kind]).length > 0;
  for (const [kind, drawIt] of figures.filter(isThereAny)) {
    byId(`${kind}-note`).textContent = content[`${kind}_note`];
    whenSeen(`${kind}-plot`, drawIt);
  }
  for (const [kind] of figures.filter((figure) => !isThereAny(figure))) {
    byId(`${kind}-plot`).parentElement.hidden = true;
    byId("hyper-missing").append(`${content[`${kind}_note`]} `);
  }
};
