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
for (const place of document.querySelectorAll(".word")) place.textContent = content.word;
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
byId("fold").closest("label").hidden = !isThere("projected_to");
byId("fold").checked = state.fold;
byId("fold").onchange = (event) => {
  state.fold = event.target.checked;
  state.page = 0;
  drawTable();
  remember();
};
makePointTable();
drawTable();
detail(state.chosen);
showAlong();
makeSections({
  recommended: makeCards,
  front: makeFront,
  pick: makePicker,
  hyperparameters: makeHyperparameters,
  growth: makeGrowth,
  networks: makeNetworks,
});
makeGlossary(metricNames);
makeSectionLinks();

// An address that was typed or pasted shows its view.
addEventListener("hashchange", () => {
  if (location.hash.includes("=")) location.reload();
}, listening);
drawAgainWithTheme();

// What the address does not hold, of a page that is drawn anew.
const opened = points.network.indexOf(before.opened);
if (opened >= 0 && rowOf(opened)) openRow(opened);
const wide = byId("point-table").parentElement;
wide.scrollLeft = before.scrollLeft ?? 0;
const typing = before.focus && document.querySelector(before.focus.at);
if (typing) {
  typing.focus({ preventScroll: true });
  if (before.focus.selection) typing.setSelectionRange(...before.focus.selection);
}

// Leaves the page for one that is drawn anew, and gives its view.
const leave = () => {
  leaving.abort();
  const { id, name, type, selectionStart, selectionEnd } = document.activeElement;
  const at = id ? `#${CSS.escape(id)}` : name && `[name="${CSS.escape(name)}"]`;
  const selection = type === "search" ? [selectionStart, selectionEnd] : null;
  const row = openedRow();
  return {
    view: view(),
    chosen: state.chosen === null ? null : points.network[state.chosen],
    unfolded: state.unfolded,
    opened: row && points.network[row.previousSibling.dataset.point],
    isAllOpen,
    isWhole,
    growthBy: byId("growth-by").value,
    drawnNetworks: new Set(eachChosen(({ label }) => [label])),
    scrollLeft: wide.scrollLeft,
    focus: at && { at, selection },
  };
};
return { leave, drawAll };
