// Study: two pictures, which one do you prefer? What is on which side is not known to this page.

import { get, post } from "./api.js";
import { append, h, plural } from "./dom.js";

export async function show(main, app) {
  let onKey = null;

  async function plan() {
    const people = h("input", { type: "number", min: 2, max: 500, value: 6, onchange: () => note() });
    const sentence = h("p", { role: "status" }, "…");
    const page = h("div", { class: "page" }, h("h1", { tabindex: -1 }, "Study"));
    main.replaceChildren(page);
    const found = await get("/api/study/plan", { people: 6 });
    const { total, done } = await get("/api/study/next", { person: app.person });
    async function note() {
      sentence.textContent = "Simulating …";
      try { sentence.textContent = (await get("/api/study/plan", { people: Math.min(Math.max(people.value, 1), 500) })).note; } catch (error) { sentence.textContent = error.message; }
    }
    sentence.textContent = found.note;
    const alone = app.about.visitor && h("p", { class: "muted" }, "Visitors of this server see their own prompts alone. So yours is compared with everyone’s and with the words as you typed them, and never with another person’s: for that, run the app on a machine that people share.");
    if (!total) {
      page.append(h("div", { class: "card empty" }, h("h2", {}, "Nothing to compare yet"), h("p", { class: "muted" }, `Run a prompt for yourself${app.about.visitor ? "" : ", for somebody else"} and for everyone. Then this page asks, blind, which pictures people prefer.`), alone, h("a", { class: "button primary", href: "#/prompt" }, "Run a prompt")));
      return;
    }
    append(page,
      h("section", { class: "card" }, h("h2", {}, "Which picture do you prefer?"), h("p", {}, `${plural(total, "comparison")} for you, ${done} done. Two pictures of one prompt, side by side; sides and order are random. Some pairs come twice, and some only check that you are looking.`), alone, h("div", { class: "row" }, h("button", { class: "primary", onclick: ask, disabled: done >= total }, done ? "Go on" : "Begin"))),
      h("section", { class: "card" }, h("h2", {}, "What it could see"), h("label", {}, "People who will take part", people), sentence),
      found.participants.length > 0 && h("section", { class: "card" }, h("h2", {}, "Who has answered"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Person", "Comparisons", "Checks passed", "Repeats the same"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, found.participants.map((one) => h("tr", {}, [one.person, one.comparisons, `${one.passed} of ${one.checks}`, `${one.same} of ${one.repeats}`].map((value) => h("td", {}, String(value)))))))),
        h("div", { class: "row" }, h("a", { class: "button", href: "/api/study/export", download: "study.csv" }, "CSV for pamela study")))
    );
  }

  async function ask() {
    const { trial, done, total } = await get("/api/study/next", { person: app.person });
    document.removeEventListener("keydown", onKey);
    if (!trial) return plan();
    const answer = async (choice) => {
      document.removeEventListener("keydown", onKey);
      try { await post("/api/study/answers", { person: app.person, id: trial.id, choice }); } catch (error) { return app.say(error.message, true); }
      await ask();
    };
    const own = (url) => `${url}?${new URLSearchParams({ person: app.person })}`;
    const side = (name) => h("button", { "aria-label": `I prefer the ${name} picture`, onclick: () => answer(name) }, h("img", { src: own(trial[name]), alt: "" }));
    onKey = (event) => {
      const choice = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "tie" }[event.key];
      if (choice && !event.repeat) { event.preventDefault(); answer(choice); }
    };
    document.addEventListener("keydown", onKey);
    main.replaceChildren(h("h1", { class: "visually-hidden", tabindex: -1 }, "Which picture do you prefer?"), h("div", { class: "study" },
      h("div", { class: "row" }, h("strong", { dir: "auto" }, trial.prompt), h("span", { class: "muted" }, `${done + 1} of ${total}`)),
      h("div", { class: "pair" }, side("left"), side("right")),
      h("div", { class: "row" }, h("button", { onclick: () => answer("tie") }, "Can’t say"), h("button", { class: "quiet", onclick: plan }, "Stop for now"))));
  }

  await plan().catch((error) => main.append(h("p", { class: "page" }, error.message)));
  return () => document.removeEventListener("keydown", onKey);
}
