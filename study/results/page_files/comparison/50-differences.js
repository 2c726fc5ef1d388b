// How far the other studies are from the first, with intervals, as figures and in numbers.

const others = studies.map((_, s) => s).slice(1);
const KINDS = [
  { key: "hypervolume", title: "hypervolume", column: 1 },
  { key: BEST, title: `best ${titleOf(content.accuracy)}`, column: 2 },
].filter(({ key }) => content.differences.some((one) => one[key] !== null));
// Beside an axis there is room for so much of a name; the table has all of it.
const shortName = (s) => {
  const most = isNarrow() ? 10 : 24;
  const { name } = studies[s];
  return plain(name.length <= most ? name : `${name.slice(0, most - 1)}\u2026`);
};
const drawDifference = (id, { key, title, column }) => {
  const known = others.filter((s) => content.differences[s - 1][key] !== null);
  const traces = known.map((s) => {
    const { value, interval } = content.differences[s - 1][key];
    return {
      type: "scatter",
      mode: "markers",
      x: [value],
      y: [s],
      marker: { size: 12, color: lineColor(s), symbol: symbolOf(s) },
      error_x: interval === null ? {} : {
        type: "data", symmetric: false,
        array: [interval[1] - value], arrayminus: [value - interval[0]],
        color: lineColor(s), thickness: 2, width: 6,
      },
      hovertemplate: `${content.tables.differences[column].cells[s - 1]}`
        + `<extra>${plain(studies[s].name)}</extra>`,
    };
  });
  const zero = { type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0 };
  react(id, traces, {
    xaxis: axis(`${title}<br>minus that of ${shortName(0)}`, { zeroline: false, nticks: 6 }),
    yaxis: axis("", {
      range: [studies.length - 0.5, 0.5], tickvals: known, ticktext: known.map(shortName),
    }),
    shapes: [{ ...zero, line: { color: css("--soft"), width: 1.5, dash: "dash" } }],
  });
};
const makeDifferences = () => {
  for (const kind of KINDS) {
    const id = `difference-${kind.key.replace(/_/g, "-")}-plot`;
    const plot = make("div", { id, className: "plot" });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Differences in ${kind.title}; the table below has them too`);
    plot.style.height = `${120 + 50 * others.length}px`;
    byId("difference-plots").append(make("figure", {}, plot));
    whenSeen(id, () => drawDifference(id, kind));
  }
  makeTable("differences", (k) => [studySwatch(k + 1), " "]);
  byId("intervals").textContent = content.note;
};
