// Small SVG charts in the page's own colours; each says in words what it shows.

import { h, number, s } from "./dom.js";

const text = (x, y, words, attributes = {}) => s("text", { x, y, ...attributes }, words);

// How well a person is known, with its interval, beside everyone's taste and guessing.
export function knownChart(known, width = 400) {
  const x = (value) => 84 + (width - 96) * Math.min(Math.max(value, -0.2) + 0.2, 1.2) / 1.2;
  const rows = [["Your taste", known.srocc, [known.ci_low, known.ci_high]], ...("everyone" in known && known.everyone !== null ? [["Everyone’s", known.everyone]] : []), ["Guessing", 0]];
  const height = 34 * rows.length + 24;
  const words = rows.map(([name, value, range]) => `${name} ${number(value)}${range ? `, between ${number(range[0])} and ${number(range[1])}` : ""}`).join("; ");
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Agreement with ratings not used: ${words}` },
    [0, 0.5, 1].map((tick) => [s("line", { class: "line", x1: x(tick), x2: x(tick), y1: 0, y2: height - 22 }), text(x(tick), height - 4, tick ? String(tick) : "0", { "text-anchor": "middle" })]),
    rows.map(([name, value, range], i) => {
      const y = 18 + 34 * i;
      return [text(0, y + 4, name, { class: range ? "strong" : "" }), range && s("line", { class: "range", x1: x(range[0]), x2: x(range[1]), y1: y, y2: y }), s("circle", { class: range ? "mark" : "other", cx: x(value), cy: y, r: range ? 7 : 5 }), range && text(x(value), y - 11, number(value), { class: "strong", "text-anchor": "middle" })];
    }));
}

// Predicted against given, each point from a head that had not seen that rating.
export function predictedChart(pairs, scale) {
  const [low, high] = [scale[0], scale.at(-1)];
  const x = (value) => 40 + 330 * (value - low) / (high - low);
  const y = (value) => 250 - 230 * (Math.min(Math.max(value, low), high) - low) / (high - low);
  const ticks = scale.length > 11 ? [low, (low + high) / 2, high] : scale;
  const spread = (i) => ((i * 7919) % 17 - 8) * 0.9;  // points of one rating beside each other
  return s("svg", { class: "chart", viewBox: "0 0 400 290", role: "img", "aria-label": `${pairs.length} ratings you gave, each against what the others predict for it` },
    s("line", { class: "line", x1: x(low), y1: y(low), x2: x(high), y2: y(high), "stroke-dasharray": "4 4" }),
    ticks.map((tick) => [text(x(tick), 274, tick, { "text-anchor": "middle" }), text(26, y(tick) + 4, tick, { "text-anchor": "end" })]),
    text(205, 290, "you gave", { "text-anchor": "middle" }), text(50, 12, "↑ predicted"),
    pairs.map((pair, i) => s("circle", { class: "mark", cx: x(pair.given) + spread(i), cy: y(pair.predicted), r: 4.5, opacity: 0.7 }, s("title", {}, `${pair.id}: you gave ${pair.given}, predicted ${number(pair.predicted, 1)}`))));
}

// Which prompt came from which, a column a round; the way to the best one is marked.
export function treeChart(rows, best) {
  const nodes = new Map();
  for (const row of rows) {
    const node = nodes.get(row.prompt) ?? { ...row, scores: [] };
    if (row.score !== null) node.scores.push(row.score);
    nodes.set(row.prompt, node);
  }
  const mean = (node) => node.scores.reduce((a, b) => a + b, 0) / Math.max(node.scores.length, 1);
  const columns = [];
  for (const node of nodes.values()) (columns[node.iteration] ??= []).push(node);
  const tallest = Math.max(...columns.map((column) => column?.length ?? 0), 1);
  const height = Math.max(tallest * 26, 60) + 30;
  columns.forEach((column, c) => column?.sort((a, b) => mean(b) - mean(a)).forEach((node, r) => Object.assign(node, { x: 30 + c * 130, y: 24 + r * 26 })));
  const way = new Set();
  for (let at = best; nodes.has(at) && !way.has(at); at = nodes.get(at).parent) way.add(at);
  const width = 30 + columns.length * 130;
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tree of prompts" }, s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, style: { minWidth: `${Math.min(width, 700)}px`, maxWidth: `${width * 1.3}px` }, role: "img", "aria-label": `Tree of ${nodes.size} prompts in ${columns.length} rounds` },
    columns.map((_, c) => text(30 + c * 130, 10, c ? `round ${c}` : "start", { "text-anchor": "middle" })),
    [...nodes.values()].map((node) => {
      const parent = nodes.get(node.parent);
      return parent && parent !== node && s("path", { class: way.has(node.prompt) ? "edge best" : "edge", d: `M${parent.x} ${parent.y} C${parent.x + 60} ${parent.y} ${node.x - 60} ${node.y} ${node.x} ${node.y}` });
    }),
    [...nodes.values()].map((node) => [s("circle", { class: way.has(node.prompt) ? "mark" : "other", cx: node.x, cy: node.y, r: way.has(node.prompt) ? 7 : 5 }, s("title", {}, `${number(mean(node))}: ${node.prompt}`)), text(node.x + 11, node.y + 4, number(mean(node)))])));
}
