// Bring your ratings, take them along: files of many tools, and the stars in the pictures themselves.

import { post, request } from "./api.js";
import { append, h, number, plural } from "./dom.js";

const MOST = 64 << 20;  // bytes, as the server takes them
const SHAPES = [
  ["csv", "CSV", "image and score, for spreadsheets and every command of pamela"],
  ["rows", "Rating rows", "JSON, as a ratings folder holds them"],
  ["argilla", "Argilla", "a zip of the folder that Argilla writes"],
  ["label-studio", "Label Studio", "JSON tasks with annotations"],
];

const given = (taste) => taste && [["ratings", "rating"], ["choices", "choice"], ["likes", "like"]].filter(([key]) => taste[key]).map(([key, word]) => plural(taste[key], word)).join(", ");

export function bringCard(app, taste) {
  const status = h("div", { class: "told", role: "status" });
  const scale = app.about.scale;
  const input = h("input", { type: "file", accept: ".csv,.tsv,.xlsx,.json,.zip", hidden: true, onchange: () => { take(input.files[0]); input.value = ""; } });
  const zone = h("div", { class: "drop small-drop" },
    h("p", {}, "Drop a file here: a table with ", h("em", {}, "image"), " and ", h("em", {}, "score"), ", rating rows, or what Argilla or Label Studio exported."),
    h("div", { class: "row" }, h("button", { type: "button", class: given(taste) ? null : "primary", onclick: () => input.click() }, "Choose a file"), app.about.local && h("button", { type: "button", onclick: stars }, "Read the stars in my pictures")), input);
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); zone.classList.remove("over"); take(event.dataTransfer.files[0]); });

  const say = (...parts) => { status.replaceChildren(); append(status, ...parts); };

  async function take(file, more = {}) {
    if (!file) return;
    if (file.size > MOST) return void say(h("p", { class: "bad" }, `${file.name} has ${number(file.size / (1 << 20), 0)} MiB; at most ${MOST >> 20} are taken at a time. Bring in a part of it.`));
    say(h("p", { class: "muted" }, `Reading ${file.name} …`));
    try {
      const done = await request("POST", "/api/import", { query: { person: app.person, name: file.name.slice(-180), ...more }, raw: file });
      if (done.participants) return void askWhose(file, more, done.participants);
      said(done, file, more);
    } catch (error) { say(h("p", { class: "bad" }, error.message)); }
  }

  async function stars() {
    say(h("p", { class: "muted" }, "Looking for stars in the pictures and their sidecars …"));
    try {
      const done = await post("/api/stars/read", { person: app.person });
      if (!done.ratings && !done.likes) return void say(h("p", {}, "No stars were found. Lightroom keeps them in its catalogue until you choose “Save Metadata to Files”."));
      said(done);
    } catch (error) { say(h("p", { class: "bad" }, error.message)); }
  }

  function askWhose(file, more, people) {
    const whose = h("select", { "aria-label": "Whose ratings" }, Object.entries(people).map(([name, count]) => h("option", { value: name }, `${name} (${plural(count, "row")})`)));
    say(h("p", {}, `${file.name} holds answers of ${plural(Object.keys(people).length, "person")}. Whose are yours?`),
      h("div", { class: "row" }, whose, h("button", { type: "button", class: "primary", onclick: () => take(file, { ...more, participant: whose.value }) }, "These")));
  }

  function said(done, file, more) {
    const what = [["ratings", "rating"], ["choices", "choice"], ["likes", "like"]].filter(([key]) => done[key]).map(([key, word]) => plural(done[key], word)).join(", ") || "No answers about these pictures";
    const how = [done.new && `${done.new.toLocaleString("en")} new`, done.known && `${done.known.toLocaleString("en")} known before`, done.own && `${done.own.toLocaleString("en")} left out, as you rated those pictures here`].filter(Boolean).join(", ");
    say(h("p", { class: "strong" }, `${what}${how ? `: ${how}` : ""}.`),
      done.set_aside_count > 0 && h("details", {}, h("summary", {}, `${plural(done.set_aside_count, "row")} set aside`), h("ul", { class: "small" }, done.set_aside.map((line) => h("li", {}, line)))),
      file && done.set_aside.some((line) => line.includes("is not a number from")) && otherScale(file, more),
      done.answers > 0 && h("p", {}, h("a", { href: "#/taste" }, "See what it says of your taste")));
  }

  function otherScale(file, more) {
    const [low, high] = [0, 10].map((value) => h("input", { type: "number", step: "any", value, class: "short" }));
    return h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); take(file, { ...more, low: low.value, high: high.value }); } },
      h("span", {}, `This app rates from ${scale[0]} to ${scale.at(-1)}. The file goes`), h("label", { class: "inline" }, "from", low), h("label", { class: "inline" }, "to", high), h("button", {}, "Read it so"));
  }

  return h("section", { class: "card", id: "bring" }, h("h2", {}, "Bring your ratings"),
    h("p", { class: "muted" }, "They count like those you give here, once, however often you bring them in. What you rated here stays as you rated it."), zone, status);
}

export function takeCard(app, taste) {
  const link = (format, text) => h("a", { class: "button", href: `/api/export?${new URLSearchParams({ person: app.person, format })}`, download: "" }, text);
  const counts = given(taste), nothing = counts === "";
  const origins = (taste?.origins ?? []).map((one) => `${one.answers.toLocaleString("en")} from ${one.origin === "stars" ? "the stars in the pictures" : one.origin}`);
  return h("section", { class: "card", id: "take" }, h("h2", {}, "Take them along"),
    h("p", { class: "muted" }, counts ? `${counts}${origins.length ? `; of these ${origins.join(", ")}` : ""}.` : "Nothing yet: rate a few pictures, or bring ratings in."),
    !nothing && h("dl", { class: "shapes" }, SHAPES.map(([format, text, about]) => h("div", {}, h("dt", {}, link(format, text)), h("dd", { class: "muted small" }, about)))),
    (taste?.choices > 0 || taste?.likes > 0) && h("div", { class: "row" }, taste.choices > 0 && link("choices", "Choices"), taste.likes > 0 && link("likes", "Likes")));
}
