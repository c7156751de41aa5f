// My taste: what was learned, how sure it is, and where the answers disagree.

import { get, newId, post } from "./api.js";
import { knownChart, predictedChart } from "./charts.js";
import { append, h, level, number, plural, shot } from "./dom.js";

export async function show(main, app) {
  const page = h("div", { class: "page" }, h("div", { class: "head" }, h("h1", { tabindex: -1 }, "My taste")), h("p", { class: "muted" }, "Looking at your answers …"));
  main.append(page);
  let timer;
  async function load() {
    try {
      const taste = await get("/api/taste", { person: app.person });
      draw(page, app, taste);
      if (taste.learning && !taste.most.length) timer = setTimeout(load, 1200);
    } catch (error) {
      page.lastChild.textContent = error.message;
    }
  }
  await load();
  return () => clearTimeout(timer);
}

function draw(page, app, taste) {
  const counts = [["ratings", "rating"], ["choices", "choice"], ["likes", "like"]].filter(([key]) => taste[key]).map(([key, word]) => plural(taste[key], word));
  page.replaceChildren(h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: -1 }, "My taste"), h("p", { class: "muted" }, counts.join(", ") || "no answers yet")), h("div", { class: "row" }, h("a", { class: "button quiet", href: "#/you" }, "Bring ratings in"), h("a", { class: "button", href: "#/rate" }, "Rate more"))));
  if (!taste.most.length) {
    const words = taste.learning && !taste.problem ? ["Learning from your answers", "This page fills in a moment."]
      : ["Nothing is known of you yet", taste.problem ?? "Rate a few pictures, or bring ratings in, and this page fills."];
    page.append(h("div", { class: "card empty" }, h("h2", {}, words[0]), h("p", { class: "muted", role: "status" }, words[1]), h("a", { class: "button primary", href: "#/rate" }, "Rate pictures")));
    return;
  }
  page.append(h("div", { class: "two" }, knownCard(taste), predictedCard(taste)));
  const contradictions = contradictionsCard(app, taste);
  if (contradictions) page.append(contradictions);
  append(page,
    likesMore(taste),
    row("You would like these most", "Of the pictures you have not rated.", taste.most, score),
    row("… and these least", null, taste.least, score),
    taste.more_than_others.length > 0 && row("You like these more than others do", "Your predicted rating beside everyone’s.", taste.more_than_others, beside),
    taste.less_than_others.length > 0 && row("… and these less", null, taste.less_than_others, beside),
    row("Where it is unsure", "Your rating of these is the hardest to foretell.", taste.unsure_about, (item) => [h("strong", {}, number(item.score, 1)), ` ± ${number(item.doubt, 1)}`]));
}

const score = (item) => [h("strong", {}, number(item.score, 1)), ` ± ${number(item.std, 1)}`];
const beside = (item) => [h("strong", {}, number(item.score, 1)), ` · everyone ${number(item.everyone, 1)}`];

function knownCard(taste) {
  const known = taste.held_out;
  const agreement = taste.self_agreement;
  return h("section", { class: "card" }, h("h2", {}, "How well it predicts you"),
    known ? [knownChart(known), h("p", { class: "small muted" }, sentence(known))]
      : h("p", { class: "muted" }, "After six rated pictures with different ratings this says how well your ratings are predicted."),
    agreement && h("p", { class: "small" }, `You agree with yourself: of ${plural(agreement.pairs, "picture")} shown twice you gave the same rating to ${agreement.same}; on average they differ by ${number(agreement.mean_difference, 1)}. No prediction can be steadier than you are.`),
    h("p", { class: "small" }, taste.message), taste.notes.map((note) => h("p", { class: "note" }, note)));
}

function sentence(known) {
  const sure = known.ci_low > 0 ? "It is better than guessing." : "It may be no better than guessing yet.";
  const beats = known.everyone === null || known.everyone === undefined ? "" : known.ci_low > known.everyone ? " It knows you better than everyone’s taste does." : " Whether it beats everyone’s taste is open.";
  return `Order predicted from your other ratings against the one you gave (rank correlation, cross-validated). ${sure}${beats}`;
}

function predictedCard(taste) {
  return h("section", { class: "card" }, h("h2", {}, "Predicted and given"),
    taste.predicted.length ? [predictedChart(taste.predicted, taste.scale), h("p", { class: "small muted" }, "Each point is a rating of yours, predicted from the others without it.")]
      : h("p", { class: "muted" }, "Needs six rated pictures."));
}

function contradictionsCard(app, taste) {
  if (!taste.contradictions.length) return null;
  const items = taste.contradictions.map((item) => {
    const line = h("span", {}, "You gave ", h("strong", {}, level(item.given)), `, expected ${number(item.predicted, 1)}`);
    const figure = shot(item.thumb, line);
    const change = h("select", { "aria-label": `Change your rating of ${item.id}`, onchange: async () => {
      const value = Number(change.value);
      try {
        await post("/api/ratings", { person: app.person, id: newId(), image_id: item.id, score: value, replaces: true });
        line.replaceChildren("Now ", h("strong", {}, level(value)), ", saved");
      } catch (error) { app.say(error.message, true); }
    } }, taste.scale.map((value) => h("option", { value, selected: value === item.given }, value === item.given ? `Keep ${level(value)}` : `Change to ${level(value)}`)));
    figure.classList.add("wrap");
    figure.append(change);
    return figure;
  });
  return h("section", { class: "card" }, h("h2", {}, "These surprise it"), h("p", { class: "muted small" }, "Your other ratings point elsewhere. A slip, or a side of you it does not know: you decide."), h("div", { class: "strip" }, items));
}

// Kinds of pictures: those whose interval leaves no doubt first; a bar from the middle says how much more or less.
function likesMore(taste) {
  const sure = taste.kinds.filter((one) => Math.abs(one.more) > one.doubt);
  const firmness = (one) => Math.abs(one.more) / Math.max(one.doubt, 1e-6);
  const shown = [...(sure.length > 1 ? sure : taste.kinds)].sort((a, b) => firmness(b) - firmness(a));
  const amount = sure.length > 1 ? 6 : 3;
  const [most, least] = [1, -1].map((sign) => shown.filter((one) => sign * one.more > 0).slice(0, amount).sort((a, b) => sign * (b.more - a.more)));
  if (!most.length && !least.length) return null;
  const longest = Math.max(...[...most, ...least].map((one) => Math.abs(one.more) + one.doubt), 0.01);
  const title = taste.blank ? "What you like, by kind" : "What you like more than others do, by kind";
  const unsure = sure.length > 1 ? "" : " So far all of these may be chance: rate more to be sure.";
  const about = `${taste.blank ? "Against your own average" : "Beyond how you rate pictures at all"}, in rating steps; the pale part is an 80 % interval.${unsure}`;
  const group = (heading, kinds) => kinds.length > 0 && h("div", { class: "kind-group" }, h("h3", {}, heading), h("div", { class: "kinds" }, kinds.map((one) => kind(one, longest))));
  return h("section", { class: "card" }, h("div", {}, h("h2", {}, title), h("p", { class: "muted small" }, about)), group(taste.blank ? "You like these" : "More than others", most), group(taste.blank ? "… and these less" : "… and less than others", least));
}

function kind(one, longest) {
  const half = (value) => 50 * Math.max(-1, Math.min(1, value / longest));
  const bar = (from, to, name) => h("span", { class: name, style: { left: `${50 + Math.min(from, to)}%`, width: `${Math.abs(to - from)}%` } });
  const sign = one.more > 0 ? "+" : "";
  const name = one.field === "look" ? `Look ${one.name}` : one.name.replaceAll("_", " ");
  const about = one.field === "look" ? plural(one.pictures, "picture") : `${one.field}, ${plural(one.pictures, "picture")}`;
  return h("div", { class: "kind" },
    h("h4", {}, h("span", {}, name), h("span", { class: "number" }, `${sign}${number(one.more)} ± ${number(one.doubt)}`)),
    h("div", { class: "leaning", "aria-hidden": "true" }, bar(half(one.more - one.doubt), half(one.more + one.doubt), "range"), bar(0, half(one.more), ""), h("i", {})),
    h("p", { class: "muted small" }, about),
    h("div", { class: "strip" }, one.examples.map((item) => shot(item.thumb, null))));
}

function row(title, subtitle, items, caption) {
  if (!items.length) return null;
  return h("section", { class: "card" }, h("div", {}, h("h2", {}, title), subtitle && h("p", { class: "muted small" }, subtitle)), h("div", { class: "strip" }, items.map((item) => shot(item.thumb, caption(item)))));
}
