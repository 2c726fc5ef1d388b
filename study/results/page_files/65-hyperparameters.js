// How much each hyperparameter accounts for.

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
