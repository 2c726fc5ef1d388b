// The page, put together from its sections.

const BETTER = { maximize: "; more is better", minimize: "; less is better" };
const redraw = () => {
  state.page = 0;
  draw("front-plot");
  draw("parallel-plot");
  drawTable();
  remember();
};
const makeGlossary = () => {
  const explain = (term, text) => {
    byId("glossary").append(make("dt", { textContent: term }), make("dd", { textContent: text }));
  };
  for (const { name, description } of content.metrics) {
    if (metricNames.includes(name)) {
      explain(`${titleOf(name)}, ${name}`, description + (BETTER[directionOf[name]] || ""));
    }
  }
  for (const [term, text] of content.reading) explain(term, text);
};
const makeSectionLinks = () => {
  for (const section of document.querySelectorAll("main > section")) {
    if (section.hidden) continue;
    const title = section.querySelector("h2").textContent;
    const link = make("a", { href: `#${section.id}`, textContent: title });
    stayOnView(link);
    byId("sections").append(link);
  }
  stayOnView(document.querySelector(".skip"));
};

byId("name").textContent = content.study;
byId("facts").textContent = content.facts.join(" \u00b7 ");
byId("summary").textContent = content.summary;
byId("made").textContent = content.made;
setDefaults();
readView();
makeMarks();
makeAxes();
byId("filter").value = state.filter;
byId("filter").oninput = (event) => {
  setFilter(event.target.value);
  redraw();
};
byId("csv").onclick = saveCsv;
byId("unbrush").onclick = () => {
  state.ranges = [];
  redraw();
};
makeTable();
drawTable();
detail(state.chosen);
if (content.recommended.length) makeCards();
else hide("recommended");
if (metricNames.length && objectives.every((name) => metricNames.includes(name))) {
  makeFront();
  makePicker();
  makeParallel();
} else {
  for (const id of ["front", "pick", "hyperparameters"]) hide(id);
}
const hasGrowth = content.growth && content.growth.epochs.length > 1;
const hasCurves = content.curves.some((curve) => curve.epochs.length > 1);
if (hasGrowth) makeGrowth();
else hide("growth-figure");
if (hasCurves) makeCurves();
else hide("curves-figure");
if (!hasGrowth && !hasCurves) hide("growth");
byId("importance-note").textContent = content.importance_note;
if (content.importance) makeImportance();
else hide("importance-plot");
if (content.networks.some((network) => network.layers.length)) makeNetworks();
else hide("networks");
if (content.table1) makeTable1(content.table1);
makeGlossary();
makeSectionLinks();

// An address that was typed or pasted shows its view.
addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); });
dark.addEventListener("change", drawAll);
addEventListener("beforeprint", () => {
  printing = true;
  for (const [id, start] of pending) {
    if (!drawn.has(id) && !byId(id).closest("[hidden]")) start();
  }
  drawAll();
});
addEventListener("afterprint", () => {
  printing = false;
  drawAll();
});
