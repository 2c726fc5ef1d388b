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
const explain = (term, text) => {
  byId("glossary").append(make("dt", { textContent: term }), make("dd", { textContent: text }));
};
const BETTER = { maximize: "; more is better", minimize: "; less is better" };
// What these metrics are, and what else needs a word.
const makeGlossary = (names) => {
  for (const { name, description } of content.metrics) {
    if (names.includes(name)) {
      explain(`${titleOf(name)}, ${name}`, description + (BETTER[directionOf[name]] || ""));
    }
  }
  for (const [term, text] of content.reading) explain(term, text);
};
const drawAgainWithTheme = () => {
  dark.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    printing = true;
    for (const [id, start] of pending) {
      if (!drawn.has(id) && !byId(id).closest("[hidden]")) start();
    }
    drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    drawAll();
  });
};
