// The picker: the network that is best in one metric within limits of others.

const isCandidate = (i) => points.mark[i] === "front" || points.mark[i] === "dominated";
const candidates = points.network.map((_, i) => i).filter(isCandidate);
// Of a network itself: a point of several trainings is their mean, and the run the first of them.
const own = (name) => (points.own ? points.own[name] : points[name]);
const isMet = (limit, i) => {
  const value = own(limit.name)[i];
  return value !== null && holds(value, limit.dataset.operator, Number(limit.value));
};
const pick = () => {
  const goal = byId("pick-goal").value;
  const inputs = [...byId("pick-limits").querySelectorAll("input")];
  const limits = inputs.filter((input) => input.value !== "");
  const kept = candidates.filter(
    (i) => own(goal)[i] !== null && limits.every((limit) => isMet(limit, i)),
  );
  const sign = directionOf[goal] === "maximize" ? -1 : 1;
  kept.sort((a, b) => sign * (own(goal)[a] - own(goal)[b]));
  byId("picked-code").hidden = kept.length === 0;
  if (kept.length) {
    const names = new Set([goal, ...limits.map((limit) => limit.name)]);
    describePicked(kept[0], [...names], kept.length);
  } else {
    byId("picked").textContent = candidates.length
      ? "No network meets these limits."
      : "No network completed within the constraints.";
  }
};
const touched = () => {
  state.goal = byId("pick-goal").value;
  state.limits = {};
  for (const input of byId("pick-limits").querySelectorAll("input")) {
    if (input.value !== "") state.limits[input.name] = input.value;
  }
  pick();
  remember();
};
const describePicked = (i, names, nKept) => {
  const values = names.map((name) => `${titleOf(name)} ${reportedText(name, own(name)[i])}`)
    .join(", ");
  const of = points.own ? ", of the first training" : "";
  byId("picked").replaceChildren(
    pointButton(i),
    `  ${values}${of}  (${nKept} of ${candidates.length} meet the limits)  run `,
    runLink(i),
  );
  byId("picked-code").textContent = `${verifyCommand(points.network[i], content.server)}\n`
    + `mlflow.pyfunc.load_model("runs:/${points.run_id[i]}/model").get_raw_model()`;
};
const operatorOf = (name) => {
  if (directionOf[name] === "maximize") return ">=";
  return content.picker_limits.some((limit) => limit.name === name && limit.strict) ? "<" : "<=";
};
const makePicker = () => {
  fill(byId("pick-goal"), metricNames.filter((name) => directionOf[name]), state.goal);
  const limited = new Set([...objectives, ...content.picker_limits.map((limit) => limit.name)]);
  for (const name of reported([...limited])) {
    const operator = operatorOf(name);
    const value = state.limits[name] || "";
    const input = make("input", { type: "number", name, step: "any", value, oninput: touched });
    input.dataset.operator = operator;
    byId("pick-limits").append(make("label", {}, `${titleOf(name)} ${operator} `, input));
  }
  byId("pick-goal").onchange = touched;
  byId("picker").onsubmit = (event) => event.preventDefault();
  pick();
};
