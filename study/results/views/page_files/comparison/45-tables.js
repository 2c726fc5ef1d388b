// The tables of settings and of the joint front.

const makeSettings = () => makeTable("settings");
const makeJoint = () => {
  const cells = content.networks.map((network, k) => verifyCommand(network, content.uris[k]));
  makeTable(
    "joint",
    (k) => [studySwatch(points.study[k]), " "], // the joint front comes first
    (k) => content.run_pages[k],
    [{ head: "a proof, checked again", cells, is_text: true }],
  );
};
