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
// Of each block a bar over its layers, whose names begin with its own.
const blocksTrace = (network, k) => {
  const [x, y, text] = [[], [], []];
  for (const block of network.blocks) {
    const inside = network.layers
      .map((layer, i) => (layer.name.startsWith(`${block.name}.`) ? i + 1 : null))
      .filter((i) => i !== null);
    if (!inside.length) continue;
    const [first, last] = extent(inside);
    x.push(first - 0.4, last + 0.4, null);
    y.push(block.upper_bound, block.upper_bound, null);
    text.push(plain(block.name), plain(block.name), "");
  }
  return {
    type: "scatter", mode: "lines", legendgroup: String(k), showlegend: false, x, y, text,
    line: { color: lineLook(k).color, width: 4 },
    hovertemplate: `block %{text}: Lip(g) at most %{y:.4g}<extra>${plain(network.label)}</extra>`,
  };
};
const drawLayers = () => {
  const one = { type: "line", xref: "paper", x0: 0, x1: 1, y0: 1, y1: 1 };
  const traces = eachChosen((network, k) => [
    { ...layersTrace(network, k), legendgroup: String(k) },
    blocksTrace(network, k),
  ]);
  react("layers-plot", traces, {
    xaxis: axis("layer"),
    yaxis: axis("proven bound, l2", { rangemode: "tozero" }),
    shapes: [{ ...one, line: { color: css("--soft"), width: 1, dash: "dash" } }],
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
const reconstruction = ({ label, image, error }) => make(
  "figure", {},
  make("img", {
    src: image,
    alt: `Validation images above their reconstructions by ${label}`,
  }),
  make("figcaption", {
    textContent: `${label}: images above, reconstructions below (paper, Figure 3); `
      + `reconstruction error ${error === null ? "not finite" : formatted(error)}`,
  }),
);
const drawReconstructions = () => {
  byId("reconstructions").replaceChildren(
    ...eachChosen((network) => (network.image === null ? [] : [reconstruction(network)])),
  );
};
const drawNetworks = () => {
  draw("layers-plot");
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
  whenSeen("inverse-plot", drawInverse);
};
