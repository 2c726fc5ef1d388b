// The tables that the report prints too.

// before: what stands in the first cell of each row, before its text; link: where the text leads.
const makeTable = (name, before = () => [], link = () => null) => {
  const columns = content.tables[name];
  const look = (column) => (column.is_text ? "text" : "");
  const table = byId(`${name}-table`);
  table.tHead.append(make("tr", {}, ...columns.map((column) => (
    make("th", { scope: "col", textContent: column.head, className: look(column) })
  ))));
  table.tBodies[0].append(...columns[0].cells.map((_, k) => make("tr", {}, ...columns.map(
    (column, place) => {
      const text = column.cells[k];
      if (place) return make("td", { className: look(column), textContent: text });
      const first = link(k) ? outsideLink(link(k), text) : text;
      return make("td", { className: look(column) }, ...before(k), first);
    },
  ))));
};
