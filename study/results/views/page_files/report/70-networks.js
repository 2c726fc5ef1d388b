// Proofs and inverses: what chosen networks left.

const chosenNetworks = new Set(content.networks.map((_, k) => k).filter((k) => (
  before.drawnNetworks ? before.drawnNetworks.has(content.networks[k].label) : k < content.n_chosen
)));
const eachChosen = (build) => (
  content.networks.flatMap((network, k) => (chosenNetworks.has(k) ? build(network, k) : []))
);
const layersTrace = (network, k) => ({
  type: "scatter",
  mode: "markers",
  name: plain(network.label),
  marker: { size: 6, color: lineLook(k).color, symbol: SYMBOLS[k % SYMBOLS.length] },
  x: network.layers.map((_, i) => i + 1),
  y: network.layers.map((layer) => layer.upper_bound),
  text: network.layers.map((layer) => plain(layer.name)),
  hovertemplate: `%{text}: %{y:.4f}<extra>${plain(network.label)}</extra>`,
});
// Of each block a bar over its layers, whose names begin with its own, and in the middle of the bar
// what the block attains.
const blockTraces = (network, k) => {
  const bars = { x: [], y: [], text: [] };
  const attained = { x: [], y: [], text: [] };
  network.blocks.forEach((block, at) => {
    const inside = network.layers
      .map((layer, i) => (layer.name.startsWith(`${block.name}.`) ? i + 1 : null))
      .filter((i) => i !== null);
    if (!inside.length) return;
    const [first, last] = extent(inside);
    bars.x.push(first - 0.4, last + 0.4, null);
    bars.y.push(block.upper_bound, block.upper_bound, null);
    bars.text.push(plain(block.name), plain(block.name), "");
    attained.x.push((first + last) / 2);
    attained.y.push(network.attained[at] ?? null);
    attained.text.push(plain(block.name));
  });
  const common = { type: "scatter", legendgroup: String(k), showlegend: false };
  const says = (what) => `block %{text}: ${what}<extra>${plain(network.label)}</extra>`;
  return [
    {
      ...common, ...bars, mode: "lines", line: { color: lineLook(k).color, width: 4 },
      hovertemplate: says(`Lip(g) at most %{y:.4g}, proven${plain(network.word)}`),
    },
    {
      ...common, ...attained, mode: "markers",
      marker: { symbol: "hexagon", size: 10, color: css("--card"), line: { width: 2, color: lineLook(k).color } },
      hovertemplate: says("a slope of %{y:.4g} was found"),
    },
  ];
};
const drawLayers = () => {
  const one = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1 };
  const traces = eachChosen((network, k) => [
    { ...layersTrace(network, k), legendgroup: String(k) },
    ...blockTraces(network, k),
  ]);
  react("layers-plot", traces, {
    xaxis: axis("layer"),
    yaxis: axis("bound, l2", { rangemode: "tozero" }),
    shapes: [{ ...one, line: { color: css("--soft"), width: 1, dash: "dash" } }],
  });
};
const certifiedTraces = (network, k) => [
  {
    type: "scatter",
    mode: "lines",
    name: plain(network.label),
    line: { ...lineLook(k), shape: "vh" }, // between two radii what is proven at the larger
    x: network.certified.radii,
    y: network.certified.accuracies,
    hovertemplate: `within %{x:.4g}: %{y:.1%} proven${plain(network.word)}<extra>${plain(network.label)}</extra>`,
  },
  ...(network.attack === null ? [] : [{
    type: "scatter",
    mode: "markers",
    showlegend: false,
    marker: { size: 11, symbol: "x-thin", line: { width: 3, color: lineLook(k).color } },
    x: [network.attack.radius],
    y: [network.attack.accuracy],
    hovertemplate: `attacked within %{x:.4g}: %{y:.1%} right<extra>${plain(network.label)}</extra>`,
  }]),
];
const drawCertified = () => {
  react("certified-plot", eachChosen(certifiedTraces), {
    xaxis: axis(`radius, l2, ${content.networks[0].unit}`, { rangemode: "tozero" }),
    yaxis: axis("certified test accuracy", { range: [0, 1.02] }),
  });
};
const inverseTrace = (network, k) => ({
  type: "scatter",
  mode: "lines+markers",
  name: plain(network.label),
  legendgroup: String(k),
  line: lineLook(k),
  marker: { size: 5 },
  x: network.inverse.n_steps,
  y: network.inverse.errors,
  hovertemplate: `%{x} steps: %{y:.2e}<extra>${plain(network.label)}</extra>`,
});
const drawInverse = () => {
  const traces = eachChosen(inverseTrace);
  react("inverse-plot", traces, {
    xaxis: axis("steps in every block"),
    yaxis: axis("reconstruction error, l2", { type: "log", exponentformat: "power", dtick: 1 }),
  });
};
const differences = ({ largest_pixel_error: largest, unit }) => {
  const largestIs = largest === null ? "magenta is not finite"
    : `white is the largest, ${formatted(largest)}, ${unit}`;
  return ` and the differences (${largestIs})`;
};
const reconstruction = (network) => {
  const { label, image, error } = network;
  const rows = `images, their reconstructions${differences(network)}`;
  return make(
    "figure", {},
    make("img", { src: image, alt: `${label}: ${rows}` }),
    make("figcaption", {
      textContent: `${label}: ${rows} (paper, Figure 3); reconstruction error `
        + `${error === null ? "not finite" : formatted(error)}`,
    }),
  );
};
const drawReconstructions = () => {
  byId("reconstructions").replaceChildren(
    ...eachChosen((network) => (network.image === null ? [] : [reconstruction(network)])),
  );
};
const drawNetworks = () => {
  draw("layers-plot");
  draw("certified-plot");
  draw("inverse-plot");
  drawReconstructions();
};
const makeNetworks = () => {
  content.networks.forEach((network, k) => {
    const box = checkbox(chosenNetworks, k, drawNetworks);
    const line = make("span", {
      className: "swatch", textContent: "\u25ac", style: `color: ${lineLook(k).color}`,
    });
    byId("network-choice").append(make("label", {}, box, line, ` ${network.label}`));
  });
  drawReconstructions();
  whenSeen("layers-plot", drawLayers);
  whenSeen("certified-plot", drawCertified);
  whenSeen("inverse-plot", drawInverse);
};
