// Prompt: a prompt is rewritten for a person's taste; every picture appears as it is made.

import { get, post, request } from "./api.js";
import { treeChart } from "./charts.js";
import { append, h, number, plural, shot } from "./dom.js";
import { label } from "./person.js";

const RUNNING = ["waiting", "running", "stopping"];

export async function show(main, app, [runId]) {
  const page = h("div", { class: "page" });
  main.append(page);
  let timer;
  const leave = () => clearTimeout(timer);

  async function list() {
    const { runs, simulated } = await get("/api/prompts");
    const prompt = h("input", { required: true, maxlength: 600, placeholder: "a cottage by a lake", dir: "auto" });
    const whose = h("select", {}, h("option", { value: "me" }, label(app)), h("option", { value: "everyone" }, "everyone"));
    const form = h("form", { class: "card", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const run = await post("/api/prompts", { person: whose.value === "me" ? app.person : null, prompt: prompt.value });
        location.hash = `#/prompt/${run.id}`;
      } catch (error) { app.say(error.message, true); }
    } }, h("label", {}, "What should the picture show?", prompt), h("label", {}, "For whose taste?", whose), h("div", { class: "row" }, h("button", { class: "primary" }, "Find the words I like")));
    page.replaceChildren(h("div", { class: "head" }, h("h1", { tabindex: -1 }, "Prompt"), simulated && simulatedBadge()), form);
    if (runs.length) page.append(h("section", { class: "card" }, h("h2", {}, "Earlier"), runs.map((run) => h("div", { class: "row", style: { justifyContent: "space-between" } }, h("a", { href: `#/prompt/${run.id}`, dir: "auto" }, run.prompt), h("span", { class: "muted small" }, `${run.person ?? "everyone"} · ${run.state}, ${plural(run.images, "picture")}`)))));
  }

  async function watch() {
    const run = await get(`/api/prompts/${runId}`);
    drawRun(run);
    if (RUNNING.includes(run.state)) timer = setTimeout(() => watch().catch((error) => app.say(error.message, true)), 700);
  }

  const act = (verb) => async () => {
    leave();
    try {
      if (verb === "delete") await request("DELETE", `/api/prompts/${runId}`);
      else await post(`/api/prompts/${runId}/${verb}`, {});
      verb === "delete" ? (location.hash = "#/prompt") : await watch();
    } catch (error) { app.say(error.message, true); }
  };

  const drawn = { rows: -1, state: "" };
  function drawRun(run) {
    if (drawn.rows === run.rows.length && drawn.state === run.state) return;
    Object.assign(drawn, { rows: run.rows.length, state: run.state });
    const picture = (i) => `/api/prompts/${run.id}/images/${i}`;
    const buttons = RUNNING.includes(run.state) ? [h("button", { onclick: act("stop"), disabled: run.state === "stopping" }, run.state === "stopping" ? "Stopping after this round" : "Stop")]
      : [run.state !== "done" && h("button", { class: "primary", onclick: act("resume") }, "Go on"), h("button", { class: "danger", onclick: act("delete") }, "Delete")];
    const order = run.rows.map((_, i) => i).reverse();
    const best = run.rows.reduce((found, row, i) => (row.score !== null && (found < 0 || row.score > run.rows[found].score) ? i : found), -1);
    page.replaceChildren();
    append(page,
      h("div", { class: "head" }, h("div", {}, h("a", { href: "#/prompt" }, "← All prompts"), h("h1", { tabindex: -1, dir: "auto" }, run.prompt), h("p", { class: "muted" }, `For ${run.person ?? "everyone"}`)), h("div", { class: "row" }, app.about.simulated && simulatedBadge(), buttons)),
      h("div", { class: "bar", role: "progressbar", "aria-label": "Pictures made", "aria-valuenow": run.rows.length, "aria-valuemax": run.total }, h("span", { style: { width: `${run.state === "done" ? 100 : 100 * run.rows.length / run.total}%` } })),
      h("p", { class: "muted", role: "status" }, run.problem ?? (run.state === "done" ? `Done: ${plural(run.rows.length, "picture")}.` : `${run.state[0].toUpperCase()}${run.state.slice(1)}: ${run.rows.length} of at most ${run.total} pictures.`)),
      run.result && beforeAfter(run, picture),
      h("section", { class: "card" }, h("h2", {}, "Pictures"), h("div", { class: "strip live" }, order.map((i) => shot(picture(i), [h("strong", {}, number(run.rows[i].score)), ` round ${run.rows[i].iteration}`, i === best ? " · best" : ""], { alt: run.rows[i].prompt })))),
      run.rows.length > 1 && h("section", { class: "card" }, h("h2", {}, "Tree"), h("p", { class: "small muted" }, "Which prompt came from which; the number is its mean predicted rating."), treeChart(run.rows, run.result?.best.prompt ?? run.rows[best]?.prompt)),
      run.rows.length > 0 && h("details", { class: "card" }, h("summary", {}, "Trace"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Round", "Prompt", "Seed", "Rating", "± sd", "Shows the prompt"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, run.rows.map((row) => h("tr", {}, [row.iteration, row.prompt, row.seed, number(row.score), number(row.std), number(row.adherence)].map((value) => h("td", {}, String(value))))))))));
  }

  function beforeAfter(run, picture) {
    const { best, unoptimized } = run.result;
    const of = (prompt) => run.rows.map((row, i) => [row, i]).filter(([row]) => row.prompt === prompt);
    const side = (title, result) => h("div", { class: "shot" }, h("h3", {}, `${title}: ${number(result.score)}`), h("p", { class: "small", dir: "auto" }, result.prompt), h("div", { class: "strip" }, of(result.prompt).map(([row, i]) => shot(picture(i), `seed ${row.seed}`, { alt: row.prompt }))));
    return h("section", { class: "card" }, h("h2", {}, "Before and after, at the same seeds"), h("p", { class: "small muted" }, "Predicted ratings. Whether you agree, a study says."), h("div", { class: "before-after" }, side("Before", unoptimized), side("After", best)));
  }

  try {
    await (runId ? watch() : list());
  } catch (error) {
    page.replaceChildren(h("h1", { tabindex: -1 }, "Prompt"), h("p", { class: "note" }, error.message), h("a", { href: "#/prompt" }, "All prompts"));
  }
  return leave;
}

const simulatedBadge = () => h("span", { class: "badge simulated", title: "Drawn by formulas: no image model, no real picture" }, "Simulated pictures");
