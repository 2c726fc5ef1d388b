// The tables that the report prints too.

// inFront: what stands in the first cell of each row, in front of its text; link: where the text
// leads; more: further columns.
const makeTable = (name, inFront = () => [], link = () => null, more = []) => {
  const columns = [...content.tables[name], ...more];
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
      return make("td", { className: look(column) }, ...inFront(k), first);
    },
  ))));
};
