// Rate: one picture, a pair, or nine at a time. The next pictures are loaded before they are needed.

import { ApiError, get, newId, post } from "./api.js";
import { knownChart } from "./charts.js";
import { h, level, number, plural, segments } from "./dom.js";

const AHEAD = 12;
const UPSCALED = 8;  // times, at most
const WORDS = { 0: "not for me", 1: "love it" };
const MODES = [["one", "One"], ["pair", "Pairs"], ["nine", "Nine"]];
const PER_ROUND = { one: 1, pair: 2, nine: 9 };

export async function show(main, app) {
  const scale = app.about.scale;
  const state = { mode: sessionStorage.getItem("pamela.mode") ?? "one", queue: [], shown: [], history: [], asked: new Set(), ended: false };
  const canvas = h("div", { class: "canvas" });
  const controls = h("div", {});
  const side = h("aside", { class: "side", "aria-label": "What is known of you" });
  const undo = h("button", { class: "quiet", onclick: takeBack, disabled: true }, "Undo");
  const skip = h("button", { class: "quiet", onclick: () => answer("skip") }, "Skip");
  const modes = segments("How to rate", MODES, state.mode, (mode) => {
    state.queue.unshift(...state.shown);
    state.mode = mode;
    sessionStorage.setItem("pamela.mode", mode);
    draw();
  });
  main.append(h("h1", { class: "visually-hidden", tabindex: -1 }, "Rate"),
    h("div", { class: "rate" }, h("div", { class: "stage" }, h("div", { class: "row" }, modes, h("div", { class: "row" }, undo, skip)), canvas, controls), side));

  // -- pictures ahead
  const preloaded = new Map();
  function preload(item) {
    if (preloaded.has(item.url)) return;
    const image = new Image();
    image.src = item.url;
    preloaded.set(item.url, image);
    if (preloaded.size > 60) preloaded.delete(preloaded.keys().next().value);
  }

  async function more() {
    if (state.fetching) return state.fetching;
    state.fetching = (async () => {
      const waiting = state.queue.length + state.shown.length;
      const found = await get("/api/next", { person: app.person, n: Math.min(waiting + AHEAD + 9, 60) });
      const here = new Set([...state.queue, ...state.shown].map((item) => item.id));
      const fresh = found.images.filter((item) => !here.has(item.id) && (item.again || !state.asked.has(item.id)));
      // what was suggested with more answers known goes first; what is loaded already stays
      state.queue = [...state.queue.slice(0, 3), ...fresh, ...state.queue.slice(3)].slice(0, 60);
      state.queue.slice(0, AHEAD).forEach(preload);
      state.ended = !state.queue.length && !state.shown.length;
      drawSide(found);
    })().finally(() => { state.fetching = null; });
    return state.fetching;
  }

  // -- answers
  function answer(kind, value) {
    const [first, second] = state.shown;
    if (!first) return;
    const id = newId();
    const base = { person: app.person, id };
    if (kind === "skip") app.outbox.add("/api/skips", { ...base, image_id: first.id });
    else if (kind === "rate") app.outbox.add("/api/ratings", { ...base, image_id: first.id, score: value, again: Boolean(first.again) });
    else if (kind === "choose") {
      const [preferred, other] = value === "right" ? [second, first] : [first, second];
      app.outbox.add("/api/choices", { ...base, preferred_id: preferred.id, other_id: other.id, tie: value === "tie" });
    } else app.outbox.add("/api/picks", { ...base, shown: state.shown.map((item) => item.id), liked: value });
    state.history.push({ id, items: state.shown });
    for (const item of state.shown) state.asked.add(item.id);
    state.shown = [];
    undo.disabled = false;
    draw();
  }

  async function takeBack() {
    const last = state.history.pop();
    if (!last) return;
    undo.disabled = !state.history.length;
    try {
      await app.outbox.flush();
      await post("/api/undo", { person: app.person, id: last.id });
    } catch (error) {
      app.say(error.message, true);
      state.history.push(last);
      undo.disabled = false;
      return;
    }
    for (const item of last.items) state.asked.delete(item.id);
    state.queue.unshift(...last.items, ...state.shown);
    state.shown = [];
    state.mode = last.items.length === 9 ? "nine" : last.items.length === 2 ? "pair" : "one";
    draw();
  }

  // -- drawing
  async function draw() {
    const need = PER_ROUND[state.mode];
    if (state.queue.length < need) {
      try { await more(); } catch (error) { return drawProblem(error); }
    }
    if (state.queue.length < need) return drawEnd();
    const usable = need === 1 ? state.queue : state.queue.filter((item) => !item.again);
    state.shown = usable.slice(0, need);
    state.queue = state.queue.filter((item) => !state.shown.includes(item) && (need === 1 || !item.again));
    if (state.shown.length < need) return drawEnd();
    skip.hidden = state.mode !== "one";
    ({ one: drawOne, pair: drawPair, nine: drawNine })[state.mode]();
    state.queue.slice(0, AHEAD).forEach(preload);
    if (state.queue.length < AHEAD || state.history.length % 4 === 0) more().catch((error) => error instanceof ApiError && app.say(error.message, true));
  }

  const picture = (item, alt) => {
    const image = h("img", { src: item.url, alt, draggable: "false", fetchpriority: "high" });
    image.addEventListener("error", () => skipBroken(item));
    image.addEventListener("load", () => fit(image));
    return image;
  };

  // A picture of few pixels is not blown up over the whole page.
  function fit(image) {
    const place = image.parentElement;
    if (!place?.classList.contains("canvas")) return;
    const room = Math.min(place.clientWidth / image.naturalWidth, place.clientHeight / image.naturalHeight);
    const tiny = Math.max(image.naturalWidth, image.naturalHeight) < 400 && room > UPSCALED;
    image.classList.toggle("tiny", tiny);
    Object.assign(image.style, tiny ? { width: `${image.naturalWidth * UPSCALED}px`, height: `${image.naturalHeight * UPSCALED}px` } : { width: "", height: "" });
  }

  function skipBroken(item) {
    if (!state.shown.includes(item)) return;
    state.asked.add(item.id);
    state.queue.unshift(...state.shown.filter((other) => other !== item));
    state.shown = [];
    draw();
  }

  function drawOne() {
    const [item] = state.shown;
    const overlay = h("div", { class: "overlay", "aria-hidden": "true" });
    canvas.className = "canvas";
    canvas.replaceChildren(picture(item, "The picture to rate"), ...(item.again ? [h("span", { class: "again" }, "Once more: what would you give it now?")] : []), overlay);
    swipe(canvas, overlay, scale, (value) => answer("rate", value));
    if (scale.length > 11) return drawSlider();
    const buttons = scale.map((value, i) => h("button", { "data-level": value, onclick: () => answer("rate", value) }, level(value), h("small", {}, WORDS[i / (scale.length - 1)])));
    controls.replaceChildren(h("div", { class: scale.length > 6 ? "levels many" : "levels", role: "group", "aria-label": "How much do you like it?" }, buttons));
  }

  function drawSlider() {
    const middle = (scale[0] + scale.at(-1)) / 2;
    const input = h("input", { type: "range", min: scale[0], max: scale.at(-1), step: scale[1] - scale[0], value: middle, "aria-label": "How much do you like it?" });
    controls.replaceChildren(h("div", { class: "row" }, input, h("button", { class: "primary", onclick: () => answer("rate", Number(input.value)) }, "Rate")));
  }

  function drawPair() {
    canvas.className = "canvas";
    canvas.replaceChildren(h("div", { class: "pair" }, state.shown.map((item, i) => h("button", { "aria-label": i ? "I prefer the right picture" : "I prefer the left picture", onclick: () => answer("choose", i ? "right" : "left") }, picture(item, "")))));
    controls.replaceChildren(h("div", { class: "row", style: { justifyContent: "center" } }, h("button", { onclick: () => answer("choose", "tie") }, "Can’t say")));
  }

  function drawNine() {
    const liked = new Set();
    canvas.className = "canvas";
    const done = h("button", { class: "primary", onclick: () => answer("pick", [...liked]) }, "None of these");
    canvas.replaceChildren(h("div", { class: "nine" }, state.shown.map((item, i) => {
      const button = h("button", { "aria-pressed": "false", "aria-label": `Picture ${i + 1}`, onclick: () => {
        liked.has(item.id) ? liked.delete(item.id) : liked.add(item.id);
        button.setAttribute("aria-pressed", String(liked.has(item.id)));
        done.textContent = liked.size ? `I like ${liked.size} of 9` : "None of these";
      } }, picture(item, ""));
      return button;
    })));
    controls.replaceChildren(h("div", { class: "row", style: { justifyContent: "center" } }, done));
  }

  function drawEnd() {
    state.shown = [];
    canvas.replaceChildren(h("div", { class: "card empty" }, h("h2", {}, "That was all of them"), h("p", { class: "muted" }, `You have answered ${plural(app.about.pictures, "picture")}.`), h("a", { class: "button primary", href: "#/taste" }, "See your taste")));
    controls.replaceChildren();
  }

  function drawProblem(error) {
    app.say(error.message, true);
    canvas.replaceChildren(h("div", { class: "card empty" }, h("h2", {}, "No picture came"), h("p", {}, error.message), h("button", { class: "primary", onclick: draw }, "Try again")));
    controls.replaceChildren();
  }

  function drawSide(found) {
    const known = found.known;
    const cards = [h("section", { class: "card" },
      h("h2", {}, "How well you are known"),
      known ? [h("p", { class: "big number" }, number(known.srocc)), knownChart(known, 280), h("p", { class: "small muted" }, "Agreement of the order predicted for you with ratings it was not given: 1 is perfect, 0 is guessing. The bar holds the true value in 95 of 100 cases.")]
        : [h("p", { class: "muted" }, found.answers < 6 ? `After ${plural(6 - found.answers, "more rating")} this says how well your taste is predicted.` : "Not enough ratings that differ to tell yet.")],
      h("p", {}, plural(found.answers, "answer")),
      h("div", { class: "bar", role: "img", "aria-label": `${found.answers} of about 30 answers` }, h("span", { style: { width: `${Math.min(100, found.answers / 0.3)}%` } })),
      h("p", { class: "small" }, found.message),
      found.answers >= 4 && h("a", { class: "button", href: "#/taste" }, "See my taste"))];
    cards.push(h("section", { class: "keys", "aria-label": "Keys" },
      h("span", {}, h("kbd", {}, "1"), " … ", h("kbd", {}, String(Math.min(9, Math.floor(scale.at(-1))))), " rate", scale.some((v) => v % 1) ? [", with ", h("kbd", {}, "⇧"), " a half more"] : ""),
      h("span", {}, h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " choose, ", h("kbd", {}, "↑"), " can’t say"),
      h("span", {}, h("kbd", {}, "Z"), " undo, ", h("kbd", {}, "S"), " skip, ", h("kbd", {}, "Enter"), " nine: done")));
    side.replaceChildren(...cards);
  }

  // -- keys
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const digit = /^(Digit|Numpad)([0-9])$/.exec(event.code)?.[2];
    if (event.key === "z" || event.key === "Z" || event.key === "Backspace") takeBack();
    else if (state.mode === "one" && digit) {
      const value = Number(digit) + (event.shiftKey ? 0.5 : 0);
      if (scale.length <= 11 && scale.includes(value)) {
        controls.querySelector(`[data-level="${value}"]`)?.classList.add("hit");
        answer("rate", value);
      }
    } else if (state.mode === "one" && event.key.toLowerCase() === "s") answer("skip");
    else if (state.mode === "pair" && event.key === "ArrowLeft") answer("choose", "left");
    else if (state.mode === "pair" && event.key === "ArrowRight") answer("choose", "right");
    else if (state.mode === "pair" && ["ArrowUp", "ArrowDown", "="].includes(event.key)) answer("choose", "tie");
    else if (state.mode === "nine" && digit && digit !== "0") canvas.querySelectorAll(".nine button")[Number(digit) - 1]?.click();
    else if (state.mode === "nine" && event.key === "Enter" && !event.target.closest("button, a")) controls.querySelector("button")?.click();
    else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", onKey);
  await draw();
  if (!side.children.length) await more().catch(() => {});
  return () => document.removeEventListener("keydown", onKey);
}

// Dragging a picture sideways rates it: far left is the lowest level, far right the highest; the number is shown meanwhile.
function swipe(canvas, overlay, scale, done) {
  let start = null;
  const value = (x) => {
    const share = Math.min(Math.max((x - start) / (canvas.clientWidth * 0.7) + 0.5, 0), 1);
    return scale[Math.round(share * (scale.length - 1))];
  };
  canvas.onpointerdown = (event) => { if (event.pointerType !== "mouse") start = event.clientX; };
  canvas.onpointermove = (event) => {
    if (start === null || Math.abs(event.clientX - start) < 16) return;
    canvas.classList.add("dragging");
    overlay.textContent = level(value(event.clientX));
  };
  canvas.onpointercancel = () => { start = null; canvas.classList.remove("dragging"); };
  canvas.onpointerup = (event) => {
    const moved = start !== null && Math.abs(event.clientX - start) >= 40;
    const chosen = moved ? value(event.clientX) : null;
    start = null;
    canvas.classList.remove("dragging");
    if (chosen !== null) done(chosen);
  };
}
