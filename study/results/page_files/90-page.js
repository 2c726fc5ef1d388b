// The page, put together from its sections.

const redraw = () => {
  state.page = 0;
  draw("front-plot");
  draw("parallel-plot");
  drawTable();
  remember();
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
byId("filter").placeholder = where.example;
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
makeGlossary(metricNames);
makeSectionLinks();

// An address that was typed or pasted shows its view.
addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); });
drawAgainWithTheme();
