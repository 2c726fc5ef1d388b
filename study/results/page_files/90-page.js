// The page, put together from its sections.

const BETTER = { maximize: "; more is better", minimize: "; less is better" };
const redraw = () => {
  state.page = 0;
  draw("front-plot");
  draw("parallel-plot");
  drawTable();
};
const makeGlossary = () => {
  const explain = (term, text) => {
    byId("glossary").append(make("dt", { textContent: term }), make("dd", { textContent: text }));
  };
  for (const { name, description } of content.metrics) {
    if (metricNames.includes(name)) explain(name, description + (BETTER[directionOf[name]] || ""));
  }
  for (const [term, text] of content.reading) explain(term, text);
};
const makeSectionLinks = () => {
  for (const section of document.querySelectorAll("main > section")) {
    if (section.hidden) continue;
    const title = section.querySelector("h2").textContent;
    byId("sections").append(make("a", { href: `#${section.id}`, textContent: title }));
  }
};

byId("name").textContent = content.study;
byId("summary").textContent = content.summary;
byId("made").textContent = content.made;
makeMarks();
makeAxes();
byId("filter").oninput = (event) => {
  state.terms = parseFilter(event.target.value);
  redraw();
};
byId("csv").onclick = saveCsv;
byId("unbrush").onclick = () => {
  state.ranges = [];
  redraw();
};
makeTable();
drawTable();
detail(null);
if (metricNames.length && objectives.every((name) => metricNames.includes(name))) {
  makeFront();
  makePicker();
  makeParallel();
} else {
  for (const id of ["front", "pick", "hyperparameters"]) hide(id);
}
if (content.growth && content.growth.epochs.length > 1) makeGrowth();
else hide("growth");
if (content.importance) makeImportance();
else byId("importance-plot").parentElement.hidden = true;
if (content.networks.length) makeNetworks();
else hide("networks");
if (content.table1) makeTable1(content.table1);
makeGlossary();
makeSectionLinks();

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
