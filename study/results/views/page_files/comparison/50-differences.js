// How far the other studies are from the first, with intervals.

const makeDifferences = () => {
  makeTable("differences", (k) => [studySwatch(k + 1), " "]);
  byId("intervals").textContent = content.note;
};
