// Rank: this folder, or pictures dropped here, in my order beside everyone's. Sliders move without asking the server:
// it sends scores on a grid of strengths and mixes, and between its points they are interpolated.

import { get, newId, post, request } from "./api.js";
import { h, number, plural, segments, slider } from "./dom.js";
import { label } from "./person.js";

const SHOWN = 120;

export async function show(main, app) {
  const state = { source: "folder", strength: 1, weight: 0, filter: "all", top: 24, above: null, fold: true, other: "", data: null, files: [] };
  const { people } = await get("/api/people").catch(() => ({ people: [] }));
  const status = h("p", { class: "muted", role: "status" });
  let timer;
  const place = h("div", {});
  const controls = h("section", { class: "card", hidden: true });
  const result = h("ol", { class: "ranked" });
  const source = segments("What to rank", [["folder", "This folder"], ["mine", "My pictures"]], "folder", (value) => { state.source = value; load(); });
  main.append(h("div", { class: "page" }, h("div", { class: "head" }, h("h1", { tabindex: -1 }, "Rank"), source), place, controls, status, result));

  async function load() {
    const again = state.data?.learning && !state.data.known;
    state.data = null;
    if (!again) result.replaceChildren();
    controls.hidden = true;
    place.replaceChildren(...(state.source === "mine" ? [dropZone()] : []));
    if (state.source === "mine" && !state.batch) return void (status.textContent = "");
    status.textContent = "Scoring …";
    try {
      const query = { person: app.person, other: state.other || null };
      state.data = state.source === "folder" ? await get("/api/ranking", query) : await get("/api/uploads/ranking", { ...query, batch: state.batch });
    } catch (error) {
      return void (status.textContent = error.message);
    }
    drawControls();
    draw();
    clearTimeout(timer);
    if (state.data.learning && !state.data.known) timer = setTimeout(load, 1500);  // the first fit is under way
  }

  // -- dropped pictures: bytes go to this machine's server, are scored and forgotten
  function dropZone() {
    const pick = (directory) => h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, webkitdirectory: directory || null, onchange: (event) => take([...event.target.files]) });
    const [files, folder] = [pick(false), pick(true)];
    const zone = h("div", { class: "drop" }, h("h2", {}, "Drop pictures or a folder here"), h("p", { class: "muted" }, "They are scored on this machine and not kept."),
      h("div", { class: "row" }, h("button", { class: "primary", onclick: () => files.click() }, "Choose pictures"), h("button", { onclick: () => folder.click() }, "Choose a folder")), files, folder);
    zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      take(await dropped(event.dataTransfer));
    });
    return zone;
  }

  async function take(files) {
    const pictures = files.filter((file) => /\.(png|jpe?g|webp|gif|avif|bmp|tiff?|heic|heif|jp2|dng|cr[23]|nef|arw|raf|rw2|orf)$/i.test(file.name)).slice(0, 500);
    if (!pictures.length) return void (status.textContent = "None of these is a picture.");
    state.files.forEach((one) => URL.revokeObjectURL(one.url));
    Object.assign(state, { batch: newId(), files: [] });
    const refused = [];
    for (const [i, file] of pictures.entries()) {
      status.textContent = `Scoring picture ${i + 1} of ${pictures.length} …`;
      try {
        const name = (file.webkitRelativePath || file.name).slice(-180);
        const { index } = await request("POST", "/api/uploads", { query: { batch: state.batch, name }, raw: file });
        state.files[index] = { file, url: URL.createObjectURL(file) };
      } catch (error) { refused.push(error.message); }
    }
    if (refused.length) app.say(`${plural(refused.length, "picture")} left out: ${refused[0]}`, true);
    if (state.files.length) await load();
    else status.textContent = "None of these could be read.";
  }

  // -- scores between the grid's points
  function scoreAt(i) {
    const { weights, strengths, scores } = state.data;
    const between = (values, at) => {
      const right = Math.max(1, values.findIndex((value) => value >= at - 1e-9));
      if (values.length < 2) return [0, 0, 0];
      return [right - 1, right, Math.min(Math.max((at - values[right - 1]) / (values[right] - values[right - 1]), 0), 1)];
    };
    const [w0, w1, w] = between(weights, state.weight);
    const [s0, s1, t] = between(strengths, state.strength);
    const at = (a) => scores[i][a][s0] * (1 - t) + scores[i][a][s1] * t;
    return at(w0) * (1 - w) + at(w1) * w;
  }

  function ordered() {
    const { items, scores, strengths, groups, doubt, diverse } = state.data;
    const zero = strengths.indexOf(0);
    let rows = items.map((item, i) => ({ ...item, i, score: scoreAt(i), everyone: scores[i][0][zero], group: groups[i], doubt: doubt[i] * state.strength }));
    const everyone = [...rows].sort((a, b) => b.everyone - a.everyone);
    everyone.forEach((row, place) => { row.everyonePlace = place + 1; });
    rows.sort((a, b) => b.score - a.score);
    if (state.fold) {
      const first = new Map();
      rows = rows.filter((row) => {
        const best = first.get(row.group);
        if (best) best.alike += 1;
        else first.set(row.group, Object.assign(row, { alike: 0 }));
        return !best;
      });
    }
    rows.forEach((row, place) => { row.place = place + 1; });
    if (state.filter === "top") rows = rows.slice(0, state.top);
    if (state.filter === "above") rows = rows.filter((row) => row.score >= state.above);
    if (state.filter === "diverse") {
      const chosen = new Set(diverse.slice(0, state.top));
      rows = rows.filter((row) => chosen.has(row.i));
    }
    return rows;
  }

  function drawControls() {
    const [low, high] = [app.about.scale[0], app.about.scale.at(-1)];
    state.above ??= low + 0.7 * (high - low);
    const others = people.filter((one) => one.name !== label(app) && one.answers > 1);
    const mix = others.length > 0 && h("label", {}, "Mix with", h("select", { onchange: (event) => { state.other = event.target.value; state.weight = state.other ? 0.5 : 0; load(); } },
      h("option", { value: "" }, "nobody"), others.map((one) => h("option", { value: one.name, selected: one.name === state.other }, one.name))));
    const own = (values) => (state.filter === "above"
      ? slider("At least", { min: low, max: high, step: 0.1, value: state.above, show: (v) => number(v, 1), onInput: (v) => { state.above = v; draw(); } })
      : slider("How many", { min: 4, max: 60, step: 1, value: state.top, onInput: (v) => { state.top = v; draw(); } }));
    const amount = h("div", {}, state.filter !== "all" && own());
    const filter = h("label", {}, "Show", h("select", { onchange: (event) => { state.filter = event.target.value; amount.replaceChildren(...(state.filter === "all" ? [] : [own()])); draw(); } },
      [["all", "all, best first"], ["top", "the best"], ["diverse", "the best that differ"], ["above", "above a rating"]].map(([value, text]) => h("option", { value, selected: value === state.filter }, text))));
    const fold = h("input", { type: "checkbox", checked: state.fold, onchange: () => { state.fold = fold.checked; draw(); } });
    controls.replaceChildren(h("div", { class: "controls" },
      slider("Strength of my taste", { min: 0, max: 1.5, step: 0.05, value: state.strength, ends: ["everyone", "me", "more me"], show: (v) => number(v, 2), onInput: (v) => { state.strength = v; draw(); } }),
      state.other && slider("Whose", { min: 0, max: 1, step: 0.05, value: state.weight, ends: [label(app), state.other], show: (v) => `${Math.round(100 * (1 - v))} : ${Math.round(100 * v)}`, onInput: (v) => { state.weight = v; draw(); } }),
      mix, filter, amount),
    h("div", { class: "row" }, h("label", { class: "check" }, fold, h("span", {}, "Near-duplicates once")),
      h("button", { onclick: saveCsv }, "CSV"),
      "showDirectoryPicker" in window && h("button", { onclick: copyTo }, "Copy these to a folder"),
      state.source === "folder" && app.about.local && state.data.known && h("button", { onclick: askStars }, "Write XMP stars")), h("p", { class: "small", role: "status", hidden: true }));
    controls.hidden = false;
  }

  let frame = 0;
  function draw() {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const rows = ordered();
      const [low, high] = [app.about.scale[0], app.about.scale.at(-1)];
      const part = (value) => `${100 * Math.min(Math.max((value - low) / (high - low), 0), 1)}%`;
      const about = state.data.known ? "The bar is an 80 % interval of your rating; the thin line is everyone’s." : state.data.learning ? "Learning from your answers; until then this is everyone’s order." : "Nothing is known of you yet: this is everyone’s order. Rate a few pictures first.";
      status.textContent = `${plural(rows.length, "picture")}${rows.length > SHOWN ? `, the first ${SHOWN} shown` : ""}. ${about}`;
      result.replaceChildren(...rows.slice(0, SHOWN).map((row) => {
        const url = state.source === "folder" ? row.thumb : state.files[row.i]?.url;
        const width = 2 * row.doubt / (high - low);
        return h("li", {}, h("figure", { class: "shot wrap" },
          h("div", { class: "frame" }, h("img", { src: url, alt: "", loading: "lazy" }), h("span", { class: "place" }, row.place), row.alike > 0 && h("span", { class: "like" }, `+${row.alike} alike`)),
          h("div", { class: "meter", "aria-hidden": "true" }, h("span", { style: { left: part(row.score - row.doubt), width: `${100 * Math.min(width, 1)}%` } }), h("i", { class: "everyone", style: { left: part(row.everyone) } }), h("i", { style: { left: part(row.score) } })),
          h("figcaption", { title: row.id }, h("strong", {}, number(row.score, 2)), state.data.known && ` ± ${number(row.doubt, 2)}`, h("br"), `everyone: #${row.everyonePlace}`)));
      }));
    });
  }

  // -- taking it along
  function saveCsv() {
    const cell = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const lines = ordered().map((row) => [cell(row.id), row.score.toFixed(3), row.doubt.toFixed(3), row.everyone.toFixed(3)].join(","));
    const url = URL.createObjectURL(new Blob([["image,score,plus_minus_80,everyone", ...lines, ""].join("\n")], { type: "text/csv" }));
    h("a", { href: url, download: "ranking.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 5000);
  }

  async function copyTo() {
    let folder;
    try { folder = await showDirectoryPicker({ mode: "readwrite" }); } catch { return; }
    const rows = ordered();
    let copied = 0;
    for (const [i, row] of rows.entries()) {
      status.textContent = `Copying ${i + 1} of ${rows.length} …`;
      try {
        const file = state.source === "folder" ? await original(row) : state.files[row.i].file;
        const name = `${String(row.place).padStart(4, "0")} ${row.id.split("/").at(-1)}`;
        const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
        await stream.write(file);
        await stream.close();
        copied += 1;
      } catch (error) { app.say(`${row.id} was not copied: ${error.message}`, true); }
    }
    status.textContent = `${plural(copied, "picture")} copied.`;
  }

  async function original(row) {
    const response = await fetch(`${row.url}?original=1`);
    if (!response.ok) throw new Error(`the app answered ${response.status}`);
    return response.blob();
  }

  function askStars() {
    const dialog = h("dialog", { "aria-labelledby": "stars" }, h("form", { method: "dialog" }, h("h2", { id: "stars" }, "Write your stars beside the pictures?"),
      h("p", {}, "Each picture of ", h("em", {}, app.about.folder), " gets a sidecar (.xmp) with the rating you gave it here, or else the predicted one, for Lightroom, darktable, digiKam and others to sort by."),
      h("p", {}, "A rating that a person gave a picture stays. The pictures themselves are not changed."),
      h("div", { class: "row" }, h("button", { value: "no" }, "Cancel"), h("button", { value: "yes", class: "primary" }, "Write them"))));
    dialog.addEventListener("close", async () => {
      dialog.remove();
      if (dialog.returnValue !== "yes") return;
      const said = controls.lastChild;
      said.hidden = false;
      said.textContent = "Writing …";
      try {
        const done = await post("/api/stars/write", { person: app.person });
        const failed = done.set_aside_count ? ` ${plural(done.set_aside_count, "sidecar")} could not be written, such as ${done.set_aside[0]}.` : "";
        said.textContent = `${plural(done.written, "picture")} got your stars; ${plural(done.kept, "picture")} kept the rating a person gave.${failed}`;
      } catch (error) { said.textContent = error.message; }
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  await load();
  return () => clearTimeout(timer);
}

// Files of a drop, folders opened.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  async function walk(entry) {
    if (entry.isFile) return found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length) return null;
      for (const child of part) await walk(child);
    }
  }
  for (const entry of entries) await walk(entry);
  return found;
}
