// Who is rating: asked once, kept in this browser. Several people, or several moods of one, are several names.

import { get, post } from "./api.js";
import { h, plural } from "./dom.js";

const KEY = "pamela.person";

export const currentPerson = () => localStorage.getItem(KEY);
export function setPerson(name) {
  if (name) localStorage.setItem(KEY, name);
  else localStorage.removeItem(KEY);
}

export async function askPerson(app) {
  const { people } = await get("/api/people").catch(() => ({ people: [] }));
  const name = h("input", { name: "name", maxlength: 120, required: true, autocomplete: "nickname", dir: "auto", placeholder: "Your name, or any other" });
  const repeats = h("input", { type: "checkbox" });
  const dialog = h("dialog", { "aria-labelledby": "who" }, h("form", { method: "dialog", onsubmit: (event) => {
    event.preventDefault();
    if (name.value.trim()) choose(name.value.trim(), repeats.checked);
  } },
  h("h2", { id: "who" }, "Who is looking?"),
  h("p", { class: "muted" }, "Rate pictures for three minutes and see what was learned of your taste. Everything stays on this machine."),
  people.length > 0 && h("div", { class: "row", role: "group", "aria-label": "People who were here" },
    people.map((one) => h("button", { type: "button", onclick: () => choose(one.name, null) }, h("bdi", {}, one.name), h("span", { class: "muted small" }, plural(one.answers, "answer"))))),
  h("label", {}, people.length ? "Somebody else, or another mood" : "A name", name),
  h("label", { class: "check" }, repeats, h("span", {}, "Show me a picture again once in a while, to see how steady my ratings are.")),
  h("button", { class: "primary" }, "Begin")));

  async function choose(person, allow) {
    if (allow !== null) {
      try { await post("/api/person", { person, repeats: allow }); } catch (error) { return app.say(error.message, true); }
    }
    setPerson(person.normalize("NFC"));
    dialog.close();
    await app.switchPerson(person.normalize("NFC"));
  }

  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  name.focus();
}
