// The address holds the view: what is chosen, shown and sorted, so that it can be sent.

const AXES = ["x", "y", "z", "color"];
const NOTHING = "none";
const initial = {}; // the view before anything is touched

const setDefaults = () => {
  const plottable = objectives.filter((name) => numeric.includes(name));
  const others = numeric.filter((name) => !plottable.includes(name));
  state.x = plottable[1] || others[0] || numeric[0];
  state.y = plottable[0] || numeric[0];
  state.color = plottable[2] || "";
  const knee = content.recommended.find((one) => one.aliases.includes("knee"));
  state.chosen = knee ? points.network.indexOf(knee.network) : null;
  state.goal = objectives[0];
  for (const key of [...AXES, "chosen", "goal"]) initial[key] = state[key];
};
const view = () => {
  const parts = new URLSearchParams();
  for (const key of AXES) {
    if (state[key] !== initial[key]) parts.set(key, state[key] || NOTHING);
  }
  const hidden = Object.keys(MARKS).filter((mark) => !state.marks.has(mark));
  if (hidden.length) parts.set("hide", hidden.join());
  if (state.filter) parts.set("filter", state.filter);
  if (state.sort) parts.set("sort", (state.descending ? "-" : "") + state.sort);
  if (!state.fold && isThere("projected_to")) parts.set("rows", "networks");
  if (state.page) parts.set("page", state.page + 1);
  if (state.chosen !== initial.chosen) {
    parts.set("network", state.chosen === null ? NOTHING : points.network[state.chosen]);
  }
  if (state.goal !== initial.goal) parts.set("best", state.goal);
  for (const [name, limit] of Object.entries(state.limits)) parts.append("limit", `${name}:${limit}`);
  return parts.toString();
};
// MLflow shows the page in a frame, whose address is nobody's to send and not to be changed.
const isFramed = window.top !== window;
const remember = () => { if (!isFramed) history.replaceState(null, "", `#${view()}`); };
// What an address says that this page does not know is left out.
const readView = () => {
  const parts = new URLSearchParams(before.view ?? location.hash.slice(1));
  for (const key of AXES) {
    const name = parts.get(key);
    if (numeric.includes(name)) state[key] = name;
    else if (name === NOTHING && key !== "x" && key !== "y") state[key] = "";
  }
  for (const mark of (parts.get("hide") || "").split(",")) state.marks.delete(mark);
  setFilter(parts.get("filter") || "");
  const sort = parts.get("sort") || "";
  const name = sort.replace(/^-/, "");
  if (tableColumns.some((one) => one.name === name)) {
    state.sort = name;
    state.descending = sort !== name;
  }
  if (parts.get("rows") === "networks") state.fold = false;
  state.page = Math.max(0, Math.floor(Number(parts.get("page") || 1)) - 1) || 0;
  const network = points.network.indexOf(parts.get("network"));
  if (network >= 0) state.chosen = network;
  else if (parts.get("network") === NOTHING) state.chosen = null;
  if (metricNames.includes(parts.get("best"))) state.goal = parts.get("best");
  // Of a page that is drawn anew, even where it was what another knee is now.
  const chosen = points.network.indexOf(before.chosen);
  if (chosen >= 0) state.chosen = chosen;
  for (const text of parts.getAll("limit")) {
    const [limited, limit] = text.split(":");
    if (metricNames.includes(limited) && Number.isFinite(Number(limit))) {
      state.limits[limited] = limit;
    }
  }
};
