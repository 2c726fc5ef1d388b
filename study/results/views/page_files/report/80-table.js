// The table of all points, and the same as CSV.

const PAGE_ROWS = 25;
const metricColumns = reported(
  [...new Set([...content.table_metrics, ...metricNames])],
);
const goalColumns = metricColumns.filter((name) => objectives.includes(name));
const metricHeads = (names) => (
  names.map((name) => ({ name, title: metricOf[name].short, small: name }))
);
const tableColumns = [
  { name: "network", title: "network", text: true },
  ...metricHeads(goalColumns),
  { name: "mark", title: "mark", text: true },
  ...(points.front_share.some((share) => share !== null)
    ? [{ name: "front_share", title: "on front" }] : []),
  ...(points.origin.some((origin) => origin !== null)
    ? [{ name: "origin", title: "origin", text: true }] : []),
  ...metricHeads(metricColumns.filter((name) => !objectives.includes(name))),
  ...content.paper.map((name) => ({ name, title: name })),
  ...paramNames.map((name) => ({ name, title: name, text: !isNumeric(name) })),
  { name: "run_id", title: "run", text: true },
];
const sorted = (ids) => {
  if (state.sort === null) return ids;
  const values = column(state.sort);
  const sign = state.descending ? -1 : 1;
  // What has no value comes last, whichever way.
  return [...ids].sort((a, b) => {
    const [u, v] = [values[a], values[b]];
    if (u === null || v === null) return (u === null) - (v === null);
    if (typeof u === "number" && typeof v === "number") return sign * (u - v);
    return sign * String(u).localeCompare(String(v), undefined, { numeric: true });
  });
};
const sortBy = (name) => {
  const isSame = state.sort === name;
  state.descending = isSame ? !state.descending : directionOf[name] === "maximize";
  state.sort = name;
  state.page = 0;
  drawTable();
  remember();
};
const makePointTable = () => {
  const row = make("tr");
  for (const { name, title, text, small } of tableColumns) {
    const cell = make("th", { scope: "col", className: text ? "text" : "" });
    cell.dataset.column = name;
    cell.append(
      make("button", { type: "button", textContent: title, onclick: () => sortBy(name) }),
      ...(small ? [make("small", { textContent: small })] : []),
    );
    row.append(cell);
  }
  byId("point-table").tHead.append(row);
};
const makeCell = ({ name, text }, i) => {
  const cell = make("td", { className: text ? "text" : "" });
  if (name === "network") cell.append(pointButton(i, () => chooseRow(i)));
  else if (name === "run_id") cell.append(runCell(i));
  else if (name === "mark") cell.textContent = markName(points.mark[i]);
  else if (name === "front_share") cell.textContent = points.front_share[i] === null ? "" : percent(points.front_share[i]);
  else cell.textContent = reportedText(name, column(name)[i]);
  if (name === content.accuracy && intervalEnds.low[i] !== null) {
    cell.append(make("small", { textContent: intervalText(i) }));
  }
  return cell;
};
const intervalText = (i) => (
  [intervalEnds.low[i], intervalEnds.high[i]].map((end) => end.toFixed(3)).join("\u2013")
);
// Below the row that was clicked, so that nobody has to scroll to the trade; again, and it is gone.
const rowOf = (i) => byId("point-table").querySelector(`tr[data-point="${i}"]`);
const openedRow = () => byId("point-table").querySelector("tr.detail");
const openRow = (i) => {
  const cell = make("td", { colSpan: tableColumns.length }, make("div", {}, ...described(i)));
  rowOf(i).after(make("tr", { className: "detail" }, cell));
};
const chooseRow = (i) => {
  const opened = openedRow();
  const isOpen = opened !== null && opened.previousSibling === rowOf(i);
  if (opened) opened.remove();
  if (!isOpen) openRow(i);
  choose(i);
};
const runCell = (i) => {
  if (runPage(i)) return runLink(i);
  return make("code", { textContent: shortRunId(i), title: points.run_id[i] });
};
const makeRow = (i) => {
  const row = make("tr", { className: i === state.chosen ? "chosen" : "" });
  row.dataset.point = i;
  row.append(...tableColumns.map((one) => makeCell(one, i)));
  return row;
};
// A training's first network in this order, and behind a button the others.
const makeRows = ([first, ...others]) => {
  const row = makeRow(first);
  if (!others.length) return [row];
  const id = points.trial_id[first];
  const isOpen = state.unfolded.has(id);
  const more = make("button", {
    type: "button", className: "more", textContent: isOpen ? "\u2212" : `+${others.length}`,
    title: `${others.length} more of this training run`,
    onclick: () => {
      if (!state.unfolded.delete(id)) state.unfolded.add(id);
      drawTable();
      rowOf(first).querySelector(".more").focus();
    },
  });
  more.setAttribute("aria-expanded", isOpen);
  row.cells[0].append(" ", more);
  return [row, ...(isOpen ? others.map(makeRow) : [])];
};
// What has a row of its own, with what is folded under it.
const groups = (ids) => {
  if (!state.fold) return ids.map((i) => [i]);
  const byTraining = new Map();
  for (const i of ids) {
    const id = points.trial_id[i];
    if (!byTraining.has(id)) byTraining.set(id, []);
    byTraining.get(id).push(i);
  }
  return [...byTraining.values()];
};
const turnButton = (text, by, disabled) => {
  const turn = () => {
    state.page += by;
    drawTable();
    remember();
    // The keyboard stays where it is, or where it can go on.
    const buttons = [...byId("pages").querySelectorAll("button")];
    const enabled = buttons.filter((button) => !button.disabled);
    (enabled.find((button) => button.textContent === text) || enabled[0]).focus();
  };
  return make("button", { type: "button", textContent: text, disabled, onclick: turn });
};
const drawPages = (nPages) => {
  byId("pages").replaceChildren(...(nPages === 1 ? [] : [
    turnButton("Previous", -1, state.page === 0),
    `page ${state.page + 1} of ${nPages}`,
    turnButton("Next", 1, state.page === nPages - 1),
  ]));
};
const drawTable = () => {
  const ids = sorted(visible());
  const rows = groups(ids);
  const nPages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  state.page = Math.min(state.page, nPages - 1);
  const order = state.descending ? "descending" : "ascending";
  for (const cell of byId("point-table").tHead.rows[0].cells) {
    cell.setAttribute("aria-sort", cell.dataset.column === state.sort ? order : "none");
  }
  const opened = openedRow() && Number(openedRow().previousSibling.dataset.point);
  const start = state.page * PAGE_ROWS;
  byId("point-table").tBodies[0].replaceChildren(
    ...rows.slice(start, start + PAGE_ROWS).flatMap(makeRows),
  );
  if (opened !== null && rowOf(opened)) openRow(opened);
  byId("count").textContent = `${ids.length} of ${n} networks`;
  const problem = filterProblem();
  byId("filter-problem").textContent = problem && `Filter: ${problem}`;
  byId("filter-problem").hidden = problem === "";
  drawPages(nPages);
};

const csvField = (value) => {
  let text = unrounded(value);
  // Spreadsheets take text that begins so for a formula, and run it.
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const saveCsv = () => {
  const names = [
    "network", "mark", ...metricNames, ...paramNames, "trial_id", "projected_to", "origin", "run_id",
    "reason",
  ];
  const rows = sorted(visible()).map((i) => names.map((name) => column(name)[i]));
  const lines = [names, ...rows].map((row) => `${row.map(csvField).join(",")}\n`);
  const blob = new Blob(lines, { type: "text/csv" });
  const link = make("a", {
    href: URL.createObjectURL(blob),
    download: `${content.study}.csv`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not before the download has begun
};
