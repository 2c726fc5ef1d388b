// Table 1 of the paper, where the study is that.

const table1Head = (names) => make("thead", {}, make(
  "tr", {},
  make("th", { textContent: "" }),
  ...names.map((name) => make("th", { scope: "col", textContent: name })),
));
const table1Row = ([title, cells]) => make(
  "tr", { className: title.startsWith(" ") ? "inner" : "" },
  make("th", { scope: "row", textContent: title.trim() }),
  ...cells.map((cell) => make("td", { textContent: cell })),
);
const makeTable1 = () => {
  const { names, rows, note } = content.table1;
  byId("table1-table").append(table1Head(names), make("tbody", {}, ...rows.map(table1Row)));
  byId("table1-note").textContent = note;
};
