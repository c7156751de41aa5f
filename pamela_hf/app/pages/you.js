// You: take the head and the answers along, bring some in, and leave without a trace.

import { get, post, request } from "./api.js";
import { h, plural } from "./dom.js";
import { bringCard, takeCard } from "./exchange.js";
import { askPerson, label, setPerson } from "./person.js";

export async function show(main, app) {
  const taste = await get("/api/taste", { person: app.person }).catch(() => null);
  const link = (path, query, text, primary) => h("a", { class: primary ? "button primary" : "button", href: `${path}?${new URLSearchParams({ person: app.person, ...query })}`, download: "" }, text);
  const told = (section) => { const line = h("p", { class: "small", role: "status" }); section.append(line); return (text) => { line.textContent = text; }; };
  const ready = Boolean(taste?.most.length);
  const onHub = h("ul", { class: "plain" });
  let pushed = [];
  async function listPushed() {
    pushed = (await get("/api/head/push", { person: app.person })).repos;
    onHub.replaceChildren(...pushed.map((repo) => h("li", { class: "row" }, h("span", {}, "On the Hub: ", h("b", {}, repo)), h("button", { class: "quiet", onclick: async () => {
      if (!confirm(`Delete ${repo} from the Hub, with its history?`)) return;
      try { await request("DELETE", "/api/head/push", { query: { person: app.person, repo } }); app.say(`${repo} is deleted, with its history. Copies that others have downloaded stay with them.`); } catch (error) { app.say(error.message, true); }
      await listPushed();
    } }, "Delete from the Hub"))));
  }

  const head = h("section", { class: "card" }, h("h2", {}, "Your head"),
    h("p", { class: "muted" }, "A few kilobytes of numbers that say how your taste differs from everyone’s. No rating and no picture is in it; still, a taste is personal."),
    h("div", { class: "row" }, ready ? link("/api/head", {}, "Download", true) : h("span", { class: "muted" }, "Rate a few pictures first.")));
  if (ready && app.about.local) {
    const repo = h("input", { placeholder: "your-name/my-taste", "aria-label": "Repository on the Hub", pattern: "[^/\\s]+/[^/\\s]+" });
    const say = told(head);
    head.append(h("form", { class: "row", onsubmit: async (event) => {
      event.preventDefault();
      say("Pushing …");
      try { const done = await post("/api/head/push", { person: app.person, repo: repo.value }); say(`Private, at ${done.url}`); await listPushed(); } catch (error) { say(error.message); }
    } }, repo, h("button", {}, "Push to the Hub, private")), onHub);
    await listPushed();
  }

  const repeats = h("input", { type: "checkbox", checked: taste?.repeats, onchange: () => post("/api/person", { person: app.person, repeats: repeats.checked }).catch((error) => app.say(error.message, true)) });
  const profile = h("section", { class: "card" }, h("h2", {}, "Who you are here"), h("p", {}, h("bdi", {}, label(app)), app.about.visitor && h("span", { class: "muted" }, ` · signed in as ${app.about.visitor.name}`)), h("label", { class: "check" }, repeats, h("span", {}, "Show me a picture again once in a while, to see how steady my ratings are.")), h("div", { class: "row" }, h("button", { onclick: () => askPerson(app) }, "Another person or mood"), app.about.visitor && h("a", { class: "button", href: "/logout" }, "Sign out")));

  const erase = h("section", { class: "card" }, h("h2", {}, "Erase"), h("p", { class: "muted" }, "Your answers, your head and your prompt runs are erased from the app’s store. What you downloaded, copied or pushed is not: that is where you put it."), h("div", { class: "row" }, h("button", { class: "danger", onclick: ask }, "Erase me")));
  function ask() {
    const alsoPushed = h("input", { type: "checkbox" });
    const dialog = h("dialog", { "aria-labelledby": "erase" }, h("form", { method: "dialog" }, h("h2", { id: "erase" }, "Erase everything of ", h("bdi", {}, label(app)), "?"), h("p", {}, "This cannot be undone."), pushed.length > 0 && h("label", { class: "check" }, alsoPushed, h("span", {}, `Delete my head from the Hub, too: ${pushed.join(", ")}`)), h("div", { class: "row" }, h("button", { value: "no" }, "Keep"), h("button", { value: "yes", class: "danger" }, "Erase"))));
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "yes") return;
      try {
        const done = await request("DELETE", "/api/person", { query: { person: app.person, pushed: alsoPushed.checked } });
        setPerson(app.about.visitor, null);
        app.say(`${plural(done.erased, "answer")} and ${plural(done.prompt_runs, "prompt run")} erased. ${done.kept}`);
        location.hash = "#/rate";
        await app.switchPerson(null);
      } catch (error) { app.say(error.message, true); }
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  main.append(h("div", { class: "page" }, h("h1", { tabindex: -1 }, "You"), h("div", { class: "two" }, bringCard(app, taste), takeCard(app, taste), head, profile, erase)));
}
