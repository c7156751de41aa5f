// The shell: which page is open, who is here, and whether everything is saved.

import { Outbox, get } from "./api.js";
import { h, plural, s } from "./dom.js";
import { askPerson, label, personOf, showSignIn } from "./person.js";

const PAGES = {
  rate: ["Rate", "M12 3l2.7 5.6 6.1.9-4.4 4.3 1 6.1-5.4-2.9-5.4 2.9 1-6.1L3.2 9.5l6.1-.9z"],
  taste: ["My taste", "M12 20S4 15 4 9.5A4.3 4.3 0 0 1 12 7a4.3 4.3 0 0 1 8 2.5C20 15 12 20 12 20z"],
  rank: ["Rank", "M5 20V11M12 20V4M19 20v-6"],
  prompt: ["Prompt", "M4 18l9-9M15 4v4M13 6h4M19 11v3M17.5 12.500h3"],
  study: ["Study", "M4 5h7v14H4zM13 5h7v14h-7z"],
  you: ["You", "M12 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM5 20c.5-4 3.5-6 7-6s6.5 2 7 6"],
};

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const saved = h("span", { class: "saved", role: "status" });
let leave = () => {};

export const app = {
  about: null,
  person: null,
  outbox: new Outbox(showSaved),
  say(text, bad = false) {
    banner.textContent = text ?? "";
    banner.className = bad ? "bad" : "";
  },
  async switchPerson(name) {
    app.person = name;
    drawAccount();
    await open();
  },
};

function showSaved(outbox) {
  const waiting = outbox.waiting;
  saved.textContent = waiting ? (outbox.problem ? `${waiting} not saved` : "Saving…") : "Saved";
  saved.classList.toggle("waiting", Boolean(waiting && outbox.problem));
  if (outbox.problem) app.say(waiting ? `${outbox.problem} ${plural(waiting, "answer")} ${waiting === 1 ? "waits" : "wait"} in this browser and will be sent again.` : outbox.problem, true);
  else if (banner.classList.contains("bad")) app.say("");
}

function drawTabs(page) {
  const icon = (path) => s("svg", { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" }, s("path", { d: path }));
  document.querySelector(".tabs").replaceChildren(...Object.entries(PAGES).map(([name, [title, path]]) =>
    h("a", { href: `#/${name}`, "aria-current": name === page ? "page" : null }, icon(path), h("span", {}, title))));
}

function drawAccount() {
  const who = app.person && h("button", { class: "quiet person", "aria-label": `${label(app)}: change person`, onclick: () => askPerson(app) }, h("bdi", {}, label(app)));
  document.querySelector(".account").replaceChildren(...[app.person && saved, who].filter(Boolean));
}

async function open(moved = false) {
  const asked = location.hash.replace(/^#\//, "").split("/");
  const page = asked[0] in PAGES ? asked[0] : "rate";
  leave();
  leave = () => {};
  drawTabs(page);
  document.title = `${PAGES[page][0]} · ${app.about?.title ?? "pamela"}`;
  if (app.about?.sign_in && !app.about.visitor) {
    document.querySelector(".tabs").replaceChildren();
    return showSignIn(main, app.about);
  }
  if (!app.person) {
    main.replaceChildren();
    await askPerson(app);
    return;
  }
  const { show } = await import(`./${page}.js`);
  main.replaceChildren();
  scrollTo(0, 0);
  leave = (await show(main, app, asked.slice(1))) ?? (() => {});
  if (moved) (main.querySelector("h1") ?? main).focus({ preventScroll: true });
}

async function start() {
  try {
    app.about = await get("/api/about");
    app.person = personOf(app.about.visitor);
    drawAccount();
    if (app.about.visitor) app.outbox.owner = `${app.about.visitor.id}/`;
    if (app.about.visitor || !app.about.sign_in) app.outbox.flush().then(() => showSaved(app.outbox));
    if (app.about.notice) app.say(app.about.notice);
    if (app.about.problem) app.say(`Rating works, learning does not: ${app.about.problem}`, true);
  } catch (error) {
    app.say(error.message, true);
    setTimeout(start, 1500);
    return;
  }
  addEventListener("hashchange", () => open(true));
  addEventListener("online", () => app.outbox.flush());
  await open();
}

start();
