// Unpacks what stands in the page, draws it and, if a server is behind the page, follows the study.

const RETRY_MILLISECONDS = 5000;

// Gzip in base 85 with the alphabet of Python's base64.b85encode: Plotly takes 1.8 MB, not 4.8.
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
const VALUES = new Uint8Array(128);
[...DIGITS].forEach((digit, value) => { VALUES[digit.charCodeAt(0)] = value; });
const bytesOf = (text) => {
  const bytes = new Uint8Array(4 * Math.ceil(text.length / 5));
  for (let i = 0, at = 0; i < text.length; i += 5) {
    let four = 0;
    for (let k = i; k < i + 5; k++) {
      four = four * 85 + (k < text.length ? VALUES[text.charCodeAt(k)] : 84);
    }
    bytes[at++] = four >>> 24;
    bytes[at++] = four >>> 16;
    bytes[at++] = four >>> 8;
    bytes[at++] = four;
  }
  return bytes.subarray(0, Math.floor((4 * text.length) / 5));
};
const unpacked = (id) => {
  const packed = new Blob([bytesOf(document.getElementById(id).textContent)]);
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

const PARTS = ["header", "main", "footer"];
const blank = PARTS.map((part) => document.querySelector(part).innerHTML);
let drawn = { leave: () => ({}) }; // the page as it is
// Draws the page. If it was drawn before, its view, zoom and place on the screen stay.
const show = (content) => {
  const before = drawn.leave();
  const top = (section) => section.getBoundingClientRect().top;
  const sections = [...document.querySelectorAll("main > section:not([hidden])")];
  const inSight = scrollY > 0 && sections.findLast((section) => top(section) < 100);
  const topBefore = inSight && top(inSight);
  const figures = [...document.querySelectorAll(".plot")];
  PARTS.forEach((part, k) => { document.querySelector(part).innerHTML = blank[k]; });
  for (const figure of figures) document.getElementById(figure.id)?.replaceWith(figure);
  drawn = drawPage(content, before);
  const again = inSight && document.getElementById(inSight.id);
  if (again && !again.hidden) scrollBy({ top: top(again) - topBefore, behavior: "instant" });
};

// Asks the server for what the page does not show yet, again and again. The server answers once
// there is something, or after a while.
const follow = async (tag) => {
  const shown = { "If-None-Match": tag };
  const say = (text) => {
    const live = document.getElementById("live");
    if (live.textContent !== text) live.textContent = text; // else it would be read out again
  };
  for (;;) {
    try {
      const answer = await fetch("content", { cache: "no-store", headers: shown });
      if (answer.status === 200) show(await answer.json());
      shown["If-None-Match"] = answer.headers.get("ETag");
      shown["X-Study-State"] = answer.headers.get("X-Study-State");
      say(decodeURIComponent(shown["X-Study-State"]));
    } catch (error) {
      say(`The server of this page does not answer: ${error.message}`);
      delete shown["X-Study-State"]; // to be told at once when it answers again
      await new Promise((over) => { setTimeout(over, RETRY_MILLISECONDS); });
    }
  }
};

const start = async () => {
  try {
    const content = JSON.parse(await unpacked("content"));
    const plotly = unpacked("plotly");
    // Cards and tables first: Plotly takes a second to start.
    show(content);
    await new Promise((painted) => { requestAnimationFrame(() => setTimeout(painted)); });
    (0, eval)(await plotly); // outside "use strict"
    drawn.drawAll();
  } catch (error) {
    const text = `This page cannot be drawn here; it takes a browser of 2023 or later: ${error}`;
    document.querySelector("main").prepend(text);
    throw error;
  }
  if (LIVE) follow(LIVE);
};
start();
