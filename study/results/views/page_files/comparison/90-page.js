// The page, put together from its sections.

const listed = (names) => (
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`
);
byId("name").textContent = listed(studies.map((study) => study.name));
byId("facts").textContent = [
  `${studies.length} studies, ${count(nJointFront, "network")} on the joint front`,
  ...(content.hypervolume === null ? []
    : [`hypervolume of the joint front ${formatted(content.hypervolume)}`]),
].join(" \u00b7 ");
byId("summary").append(...content.summary.flatMap((line) => [line, make("br")]));
makeStudyCards();
makeSections({
  trade: () => {
    makeShown();
    makeTrade();
  },
  differences: makeDifferences,
  growth: makeGrowth,
  settings: makeSettings,
  joint: makeJoint,
});
makeGlossary(Object.keys(points.metrics));
makeSectionLinks();
drawAgainWithTheme();

const leave = () => {
  leaving.abort();
  return {};
};
return { leave, drawAll };
