// You: take the head and the answers along, bring some in, and leave without a trace.

import { get, post, request } from "./api.js";
import { h, plural } from "./dom.js";
import { bringCard, takeCard } from "./exchange.js";
import { askPerson, setPerson } from "./person.js";

export async function show(main, app) {
  const taste = await get("/api/taste", { person: app.person }).catch(() => null);
  const link = (path, query, text, primary) => h("a", { class: primary ? "button primary" : "button", href: `${path}?${new URLSearchParams({ person: app.person, ...query })}`, download: "" }, text);
  const told = (section) => { const line = h("p", { class: "small", role: "status" }); section.append(line); return (text) => { line.textContent = text; }; };
  const ready = Boolean(taste?.most.length);

  const head = h("section", { class: "card" }, h("h2", {}, "Your head"),
    h("p", { class: "muted" }, "A few kilobytes of numbers that say how your taste differs from everyone’s. No rating and no picture is in it; still, a taste is personal."),
    h("div", { class: "row" }, ready ? link("/api/head", {}, "Download", true) : h("span", { class: "muted" }, "Rate a few pictures first.")));
  if (ready && app.about.local) {
    const repo = h("input", { placeholder: "your-name/my-taste", "aria-label": "Repository on the Hub", pattern: "[^/\\s]+/[^/\\s]+" });
    const say = told(head);
    head.append(h("form", { class: "row", onsubmit: async (event) => {
      event.preventDefault();
      say("Pushing …");
      try { const done = await post("/api/head/push", { person: app.person, repo: repo.value }); say(`Private, at ${done.url}`); } catch (error) { say(error.message); }
    } }, repo, h("button", {}, "Push to the Hub, private")));
  }

  const repeats = h("input", { type: "checkbox", checked: taste?.repeats, onchange: () => post("/api/person", { person: app.person, repeats: repeats.checked }).catch((error) => app.say(error.message, true)) });
  const profile = h("section", { class: "card" }, h("h2", {}, "Who you are here"), h("p", {}, h("bdi", {}, app.person)), h("label", { class: "check" }, repeats, h("span", {}, "Show me a picture again once in a while, to see how steady my ratings are.")), h("div", { class: "row" }, h("button", { onclick: () => askPerson(app) }, "Another person or mood")));

  const erase = h("section", { class: "card" }, h("h2", {}, "Erase"), h("p", { class: "muted" }, "Your answers, your head and your prompt runs are erased from this machine’s store. What you downloaded, copied or pushed is not: that is where you put it."), h("div", { class: "row" }, h("button", { class: "danger", onclick: ask }, "Erase me")));
  function ask() {
    const dialog = h("dialog", { "aria-labelledby": "erase" }, h("form", { method: "dialog" }, h("h2", { id: "erase" }, "Erase everything of ", h("bdi", {}, app.person), "?"), h("p", {}, "This cannot be undone."), h("div", { class: "row" }, h("button", { value: "no" }, "Keep"), h("button", { value: "yes", class: "danger" }, "Erase"))));
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "yes") return;
      try {
        const done = await request("DELETE", "/api/person", { query: { person: app.person } });
        setPerson(null);
        app.say(`${plural(done.erased, "answer")} and ${plural(done.prompt_runs, "prompt run")} erased. ${done.kept}`);
        location.hash = "#/rate";
        await app.switchPerson(null);
      } catch (error) { app.say(error.message, true); }
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  main.append(h("div", { class: "page" }, h("h1", { tabindex: -1 }, "You"), h("div", { class: "two" }, bringCard(app), takeCard(app, taste), head, profile, erase)));
}
