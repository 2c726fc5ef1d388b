// The recommended networks as cards: which to choose, and why.

const aliasText = (alias) => (
  alias === "knee" ? "best compromise (knee)" : alias.replace("-", " ")
);
const cardFigures = (i) => make("dl", { className: "figures" },
  ...objectives.map((name) => figureOf(titleOf(name), withError(name, i))));
const makeCard = (one) => {
  const i = points.network.indexOf(one.network);
  const names = one.aliases.map(aliasText).join(" and ");
  const look = make("button", { type: "button", textContent: "Its proof" });
  look.onclick = () => {
    choose(i);
    goTo("front");
  };
  return make("article", { className: one.aliases.includes("knee") ? "card best" : "card" },
    make("h3", {}, names[0].toUpperCase() + names.slice(1), make("code", { textContent: one.network })),
    cardFigures(i),
    make("p", { textContent: one.sentence }),
    make("p", { className: "actions" }, look, ...(runPage(i) ? [" ", runLink(i, "Its run in MLflow")] : [])));
};
const makeCards = () => byId("cards").replaceChildren(
  ...content.violations.map((text) => make("p", { textContent: text })),
  ...content.recommended.map(makeCard),
);
