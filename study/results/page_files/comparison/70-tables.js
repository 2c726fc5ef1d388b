// The settings that differ, and the joint front with what to type.

const makeSettings = () => {
  const table = byId("settings-table");
  const head = headRow(["key"]);
  head.append(...studies.map((_, s) => make("th", { scope: "col" }, ...nameOf(s))));
  table.tHead.append(head);
  table.tBodies[0].append(...content.settings.map(([key, ...values]) => make("tr", {},
    make("td", { className: "text" }, make("code", { textContent: key })),
    ...values.map((value) => make("td", { textContent: value === null ? "\u2013" : value })))));
};
const makeJoint = () => {
  const table = byId("joint-table");
  const names = Object.keys(points.metrics)
    .filter((name) => points.metrics[name].some((value) => value !== null));
  const head = headRow(["network", ...names.map((name) => metricOf[name].short)]);
  const typed = "a proof, checked again";
  head.append(make("th", { scope: "col", className: "text", textContent: typed }));
  table.tHead.append(head);
  table.tBodies[0].append(...content.joint_front.map((one) => {
    const i = points.label.indexOf(one.label);
    const label = one.run_page ? outsideLink(one.run_page, one.label) : one.label;
    return make("tr", {},
      make("td", { className: "text" }, studySwatch(points.study[i]), " ", label),
      ...names.map((name) => (
        make("td", { textContent: reportedText(name, points.metrics[name][i]) })
      )),
      make("td", { className: "text" }, make("code", { textContent: one.command })));
  }));
};
