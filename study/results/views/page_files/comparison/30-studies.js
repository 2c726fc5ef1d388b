// The studies, each with a color and a symbol; a card for each.

const studies = content.studies;
const points = content.points;
const nJointFront = content.run_pages.length;
const BEST = `best_${content.accuracy}`;
const shown = new Set(studies.keys());
// Where colors begin again, symbols do not.
const symbolOf = (s) => SYMBOLS[(s + Math.floor(s / SYMBOLS.length)) % SYMBOLS.length];
const dashOf = (s) => DASHES[s % DASHES.length];
const studySwatch = (s) => {
  const swatch = make("span", { className: "swatch", textContent: SWATCHES[symbolOf(s)] });
  const paint = () => { swatch.style.color = lineColor(s); };
  paint();
  dark.addEventListener("change", paint, listening);
  return swatch;
};
const nameOf = (s) => [studySwatch(s), ` ${studies[s].name}`];
const count = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

const aliasesOf = (study, network) => Object.keys(study.recommended)
  .filter((alias) => study.recommended[alias] === network)
  .map((alias) => alias.replace("-", " "))
  .join(", ");
const makeStudyCard = (study, s) => {
  const { hypervolume, n_joint_front: nJoint } = study;
  const best = study[BEST];
  const list = make("dl", { className: "figures" },
    ...(hypervolume === null ? [] : [figureOf("hypervolume", formatted(hypervolume))]),
    ...(best === null ? []
      : [figureOf(`best ${titleOf(content.accuracy)}`, reportedText(content.accuracy, best))]),
    figureOf("on the joint front", `${nJoint} of ${nJointFront}`));
  const own = `${count(study.n_networks, "network")}, ${study.n_front} on its own front.`;
  return make("article", { className: "card" },
    make("h3", {}, ...nameOf(s)),
    list,
    make("p", { textContent: own }),
    ...[...new Set(Object.values(study.recommended))].map((network) => make("p", {},
      `${aliasesOf(study, network)}: `,
      make("code", { className: "typed", textContent: network }))));
};
const makeStudyCards = () => byId("cards").replaceChildren(...studies.map(makeStudyCard));
