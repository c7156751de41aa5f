// Who is rating: asked once, kept in this browser. Several people, or several moods of one, are several names.

import { get, post } from "./api.js";
import { h, plural } from "./dom.js";

// A visitor who signed in has people of their own: the server knows them as VISITOR/NAME.
const key = (visitor) => (visitor ? `pamela.person/${visitor.id}` : "pamela.person");
const full = (visitor, name) => (visitor ? `${visitor.id}/${name}` : name);

export const personOf = (visitor) => localStorage.getItem(key(visitor));
export const label = (app) => (app.about?.visitor ? app.person.slice(app.about.visitor.id.length + 1) : app.person);
export function setPerson(visitor, person) {
  if (person) localStorage.setItem(key(visitor), person);
  else localStorage.removeItem(key(visitor));
}

// What somebody sees before they have signed in. In the Hub's frame the sign-in page wants a tab of its own.
export function showSignIn(main, about) {
  main.replaceChildren(h("div", { class: "page sign-in" }, h("section", { class: "card" },
    h("h1", { tabindex: -1 }, about.title ?? "What do you like?"),
    h("p", {}, `Rate pictures for three minutes and see what was learned of your taste, how sure that is, and what you would like most among ${about.pictures.toLocaleString("en")} pictures.`),
    h("p", { class: "muted" }, "You sign in so that your answers are yours: nobody else who comes here sees or changes them. The app learns your account’s name and picture, and nothing else of it."),
    about.kept && h("p", { class: "muted small" }, about.kept),
    h("div", { class: "row" }, h("a", { class: "button primary", href: about.sign_in, target: self === top ? null : "_blank" }, "Sign in with Hugging Face")))));
}

export async function askPerson(app) {
  const visitor = app.about?.visitor;
  const { people } = await get("/api/people").catch(() => ({ people: [] }));
  const name = h("input", { name: "name", maxlength: 120, required: true, autocomplete: "nickname", dir: "auto", placeholder: "Your name, or any other", value: visitor && !people.length ? visitor.name : "" });
  const repeats = h("input", { type: "checkbox" });
  const dialog = h("dialog", { "aria-labelledby": "who" }, h("form", { method: "dialog", onsubmit: (event) => {
    event.preventDefault();
    if (name.value.trim()) choose(name.value.trim(), repeats.checked);
  } },
  h("h2", { id: "who" }, "Who is looking?"),
  h("p", { class: "muted" }, "Rate pictures for three minutes and see what was learned of your taste. ", app.about?.kept),
  people.length > 0 && h("div", { class: "row", role: "group", "aria-label": "People who were here" },
    people.map((one) => h("button", { type: "button", onclick: () => choose(one.name, null) }, h("bdi", {}, one.name), h("span", { class: "muted small" }, plural(one.answers, "answer"))))),
  h("label", {}, people.length ? "Somebody else, or another mood" : "A name", name),
  h("label", { class: "check" }, repeats, h("span", {}, "Show me a picture again once in a while, to see how steady my ratings are.")),
  h("button", { class: "primary" }, "Begin")));

  async function choose(name, allow) {
    const person = full(visitor, name.normalize("NFC"));
    if (allow !== null) {
      try { await post("/api/person", { person, repeats: allow }); } catch (error) { return app.say(error.message, true); }
    }
    setPerson(visitor, person);
    dialog.close();
    await app.switchPerson(person);
  }

  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  name.focus();
}
