// The page, put together from its sections.

const listed = (names) => (
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
);
byId("name").textContent = listed(studies.map((study) => study.name));
byId("facts").textContent = [
  `${studies.length} studies, ${count(content.joint_front.length, "network")} on the joint front`,
  ...(content.hypervolume === null ? []
    : [`hypervolume of the joint front ${formatted(content.hypervolume)}`]),
  ...content.legend,
].join(" \u00b7 ");
byId("summary").append(...content.summary.flatMap((line) => [line, make("br")]));
byId("made").textContent = content.made;
makeStudyCards();
if (objectives.length > 1 && content.joint_front.length) {
  makeShown();
  makeTrade();
} else {
  hide("trade");
}
if (KINDS.length) makeDifferences();
else hide("differences");
if (grown.length) makeGrowth();
else hide("growth");
if (content.settings.length) makeSettings();
else hide("settings");
if (content.joint_front.length) makeJoint();
else hide("joint");
makeGlossary(Object.keys(points.metrics));
makeSectionLinks();
drawAgainWithTheme();
