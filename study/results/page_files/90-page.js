// The page, put together from its sections.

const redraw = () => {
  state.page = 0;
  draw("front-plot");
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
makePointTable();
drawTable();
detail(state.chosen);
makeSections({
  recommended: makeCards,
  front: makeFront,
  pick: makePicker,
  hyperparameters: makeImportance,
  growth: makeGrowth,
  networks: makeNetworks,
  table1: makeTable1,
});
byId("importance-note").textContent = content.importance_note;
makeGlossary(metricNames);
makeSectionLinks();

// An address that was typed or pasted shows its view.
addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); });
drawAgainWithTheme();
