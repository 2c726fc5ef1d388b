// The page as a whole: links to its sections, what words mean, light and dark, paper.

// A link to a part of the page leaves the view in the address.
const goTo = (id) => {
  byId(id).scrollIntoView();
  if (byId(id).tabIndex >= 0 || byId(id).hasAttribute("tabindex")) byId(id).focus();
};
const stayOnView = (link) => {
  link.onclick = (event) => {
    event.preventDefault();
    goTo(link.getAttribute("href").slice(1));
  };
};
// Sections and figures by their ids, each with what draws it.
const makeSections = (sections) => {
  for (const [id, make] of Object.entries(sections)) {
    if (Object.hasOwn(content.absent, id)) hide(id);
    else make();
  }
};
const makeSectionLinks = () => {
  for (const section of document.querySelectorAll("main > section")) {
    if (section.hidden) continue;
    const title = section.querySelector("h2").textContent;
    const link = make("a", { href: `#${section.id}`, textContent: title });
    stayOnView(link);
    byId("sections").append(link);
  }
  stayOnView(document.querySelector(".skip"));
};
const BETTER = { maximize: "; more is better", minimize: "; less is better" };
// What these metrics are, above what else needs a word, and below it what is not on the page.
const makeGlossary = (names) => {
  const explained = (term, text) => [
    make("dt", { textContent: term }), make("dd", { textContent: text }),
  ];
  const metrics = content.metrics.filter(({ name }) => names.includes(name));
  byId("glossary").prepend(...metrics.flatMap(({ name, description }) => (
    explained(`${titleOf(name)}, ${name}`, description + (BETTER[directionOf[name]] || ""))
  )));
  const reasons = Object.entries(content.absent).map(
    ([id, why]) => `${byId(id).querySelector("h2").textContent}: ${why}.`,
  );
  if (reasons.length) byId("glossary").append(...explained("not on this page", reasons.join(" ")));
};
const drawAgainWithTheme = () => {
  dark.addEventListener("change", drawAll, listening);
  addEventListener("beforeprint", () => {
    printing = true;
    for (const [id, start] of pending) {
      if (!drawn.has(id) && !byId(id).closest("[hidden]")) start();
    }
    drawAll();
  }, listening);
  addEventListener("afterprint", () => {
    printing = false;
    drawAll();
  }, listening);
};
