"use strict";
const { defaults, items, left } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const CHUNK = 120; // cards added at a time, as one scrolls
const START = { search: "", command: "", model: "", layer: "", class: "", sort: "name", down: "", view: "grid", zoom: "190" };
const state = { ...START };
let shown = [], drawn = 0, open = -1, pair = [];

items.forEach((item, id) => {
  item.id = id;
  item.words = [item.name, item.folder, item.command, item.model, item.line, ...item.layers, ...item.classes].join(" ").toLowerCase();
  item.score = item.telling || Object.keys(item.scores).find((key) => typeof item.scores[key] === "number");
});

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function told(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  return Array.isArray(value) ? value.map(told).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
}

const natural = new Intl.Collator("en", { numeric: true }).compare;
const short = (item) => (item.model && item.name.startsWith(item.model + "_") ? item.name.slice(item.model.length + 1) : item.name);
const isPicture = (link) => /\.(png|jpe?g|gif|webp)$/i.test(link);
const tiny = (item) => item.size && Math.max(...item.size) < 120;

// What is shown, and in which order

function fits(item, except) {
  return (
    (except === "command" || !state.command || item.command === state.command) &&
    (except === "model" || !state.model || item.model === state.model) &&
    (except === "layer" || !state.layer || item.layers.includes(state.layer)) &&
    (except === "class" || !state.class || item.classes.includes(state.class)) &&
    state.search.toLowerCase().split(/\s+/).every((word) => item.words.includes(word))
  );
}

function sortValue(item) {
  if (state.sort === "time") return item.time;
  if (state.sort === "seconds") return item.seconds;
  return item.scores[state.sort.slice(6)];
}

function select() {
  shown = items.filter((item) => fits(item));
  const turn = state.down ? -1 : 1;
  if (state.sort === "name") {
    shown.sort((a, b) => turn * (natural(a.command, b.command) || natural(a.name, b.name)));
  } else {
    const number = (item) => (typeof sortValue(item) === "number" ? sortValue(item) : null);
    shown.sort((a, b) => (number(a) === null) - (number(b) === null) || turn * (number(a) - number(b)) || natural(a.name, b.name));
  }
}

function options(id, label, values) {
  const node = $(id);
  node.replaceChildren(make("option", { value: "" }, label), ...values.map((value) => make("option", { value }, value)));
  if (state[id] && !values.includes(state[id])) state[id] = "";
  node.value = state[id];
  node.hidden = values.length === 0;
}

function controls() {
  const unique = (key, list) => [...new Set(items.filter((item) => fits(item, key)).flatMap(list))].filter(Boolean).sort(natural);
  options("model", "All models", unique("model", (item) => [item.model]));
  options("layer", "All layers", unique("layer", (item) => item.layers));
  options("class", "All classes", unique("class", (item) => item.classes));
  const scores = new Set();
  items.filter((item) => fits(item)).forEach((item) => Object.entries(item.scores).forEach(([key, value]) => typeof value === "number" && scores.add(key)));
  if (state.sort.startsWith("score:") && !scores.has(state.sort.slice(6))) Object.assign(state, { sort: "name", down: "" });
  const orders = [["name", "Name"], ["time", "Time"], ["seconds", "Seconds"], ...[...scores].sort(natural).map((key) => ["score:" + key, "Score: " + key])];
  $("sort").replaceChildren(...orders.map(([value, label]) => make("option", { value }, label)));
  $("sort").value = state.sort;
  $("order").textContent = state.down ? "↓" : "↑";
  const counts = {};
  items.filter((item) => fits(item, "command")).forEach((item) => (counts[item.command] = (counts[item.command] || 0) + 1));
  const chip = (command, label, count) =>
    make("button", { "aria-pressed": String(state.command === command), onclick: () => set({ command }) }, label, make("small", {}, String(count)));
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  $("commands").replaceChildren(chip("", "All", total), ...Object.keys(defaults).filter((c) => counts[c] || c === state.command).map((c) => chip(c, c, counts[c] || 0)));
  $("commands").querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("search").value = state.search;
  $("zoom").value = state.zoom;
  document.documentElement.style.setProperty("--tile", state.zoom + "px");
}

function set(values) {
  Object.assign(state, values);
  show();
}

function show() {
  controls();
  select();
  const atlas = state.view === "atlas";
  $("view-grid").setAttribute("aria-pressed", String(!atlas));
  $("view-atlas").setAttribute("aria-pressed", String(atlas));
  $("view-atlas").hidden = !items.some((item) => item.tiles.length);
  $("grid").hidden = atlas;
  $("atlas").hidden = !atlas;
  $("count").textContent = shown.length === items.length ? `${items.length} results` : `${shown.length} of ${items.length} results`;
  $("nothing").hidden = shown.length > 0;
  $("grid").replaceChildren();
  $("atlas").replaceChildren();
  drawn = 0;
  if (atlas) drawAtlas();
  else drawMore();
  remember();
}

function remember() {
  const changed = Object.entries(state).filter(([key, value]) => value !== START[key]);
  if (open >= 0) changed.push(["open", items[open].sidecar]);
  const hash = new URLSearchParams(changed).toString();
  try { history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search); } catch { /* some browsers forbid it for files */ }
}

// Grid

const resolved = (item) => ({ ...defaults[item.command], ...item.config });
const tellable = (value) => value !== "" && value !== null && (typeof value !== "object" || Array.isArray(value));
const varied = {}; // by command: the settings in which its results differ, those with the fewest values first

for (const command of Object.keys(defaults)) {
  const values = {};
  for (const item of items.filter((one) => one.command === command)) {
    for (const [key, value] of Object.entries(resolved(item))) (values[key] ||= new Set()).add(told(value));
  }
  const keys = Object.keys(values).filter((key) => values[key].size > 1 && !["model", "name", "weights", "image", "content"].includes(key));
  varied[command] = keys.sort((a, b) => values[a].size - values[b].size);
}

/** In what a result differs from its command's others: of many such settings those that are no defaults. */
function differing(item) {
  const all = resolved(item);
  const keys = (varied[item.command] || []).filter((key) => tellable(all[key]));
  const few = keys.length > 4 ? keys.filter((key) => key in item.config) : keys;
  const base = (value) => told(value).split("/").pop();
  return few.map((key) => `${key} ${base(all[key])}`).join(" · ");
}

function card(item) {
  const sorted = state.sort.startsWith("score:") ? state.sort.slice(6) : item.score;
  const image = item.thumbnail
    ? make("img", { src: item.thumbnail, loading: "lazy", decoding: "async", alt: `${item.command}: ${item.name}`, class: tiny(item) && "small" })
    : make("span", {}, item.files.length ? "no picture" : "files missing");
  const pick = make("button", { class: "pick", tabindex: "-1", title: "Mark for comparison (C)", "aria-label": "Mark for comparison", onclick: (event) => { event.stopPropagation(); mark(item.id); } }, "⇄");
  const known = sorted && item.scores[sorted] !== undefined;
  const score = known ? make("span", { title: sorted }, make("i", {}, sorted), make("em", {}, told(item.scores[sorted]))) : null;
  const differs = differing(item);
  return make("article",
    { class: "card" + (pair.includes(item.id) ? " marked" : ""), tabindex: "0", role: "button", "data-id": item.id, onclick: () => look(item.id) },
    make("div", { class: "well" }, image),
    make("div", { class: "text" }, make("b", { title: item.name }, short(item)), make("span", {}, make("i", {}, [item.command, item.model].filter(Boolean).join(" · "))), score,
      differs ? make("span", { class: "differs", title: differs }, differs) : null),
    pick);
}

function drawMore() {
  if (state.view !== "grid" || drawn >= shown.length) return;
  const part = document.createDocumentFragment();
  shown.slice(drawn, drawn + CHUNK).forEach((item) => part.append(card(item)));
  drawn = Math.min(shown.length, drawn + CHUNK);
  $("grid").append(part);
}

new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  drawMore();
}, { rootMargin: "1500px" }).observe($("more"));
addEventListener("scroll", () => { if ($("more").getBoundingClientRect().top < innerHeight + 1500) drawMore(); }, { passive: true });

// Atlas: every channel that was rendered, layer by layer

function drawAtlas() {
  const layers = new Map();
  shown.forEach((item) => item.tiles.forEach((tile) => {
    const key = `${item.model}\n${tile.layer}`;
    if (!layers.has(key)) layers.set(key, new Map());
    const channels = layers.get(key);
    if (!channels.has(tile.channel)) channels.set(tile.channel, { item, tile });
  }));
  $("nothing").hidden = layers.size > 0;
  for (const key of [...layers.keys()].sort(natural)) {
    const [model, layer] = key.split("\n");
    const channels = [...layers.get(key).values()].sort((a, b) => a.tile.channel - b.tile.channel);
    $("atlas").append(make("section", {},
      make("h2", {}, layer, make("small", {}, `${model} · ${channels.length} channel${channels.length === 1 ? "" : "s"}`)),
      make("div", { class: "tiles" }, ...channels.map(({ item, tile }) => tileButton(item, tile)))));
  }
}

function tileButton(item, tile) {
  const [width, height] = item.size || [1, 1];
  const [left, top, right, bottom] = tile.box || [0, 0, width, height];
  const along = (start, length, all) => (all > length ? (start / (all - length)) * 100 : 0) + "%";
  const button = make("button", { class: "tile", "data-id": item.id, "aria-label": `${tile.layer} channel ${tile.channel}`, title: `${tile.layer}:${tile.channel}  ${told(tile.value)}`, onclick: () => look(item.id) }, make("span", {}, String(tile.channel)));
  button.style.backgroundImage = `url("${item.picture}")`;
  button.style.backgroundSize = `${(width / (right - left)) * 100}% ${(height / (bottom - top)) * 100}%`;
  button.style.backgroundPosition = `${along(left, right - left, width)} ${along(top, bottom - top, height)}`;
  return button;
}

// Keys

function move(by) {
  const cards = [...document.querySelectorAll(state.view === "atlas" ? ".tile" : ".card")];
  const at = cards.indexOf(document.activeElement);
  const next = cards[at < 0 ? 0 : Math.max(0, Math.min(cards.length - 1, at + by))];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}

function perRow() {
  const cards = [...document.querySelectorAll(state.view === "atlas" ? ".tile" : ".card")];
  return Math.max(1, cards.findIndex((node) => node.offsetTop > cards[0].offsetTop));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ($("two").open) return;
  if ($("one").open) {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "c") mark(open);
    return;
  }
  const steps = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: perRow, ArrowUp: () => -perRow() };
  const focused = document.activeElement.dataset?.id;
  if (event.key === "/") $("search").focus();
  else if (steps[event.key]) move(steps[event.key]());
  else if (event.key === "Enter" && document.activeElement.matches(".card")) look(Number(focused));
  else if (event.key === "c" && focused !== undefined) mark(Number(focused));
  else return;
  event.preventDefault();
});

for (const dialog of [$("one"), $("two")]) dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
$("one").addEventListener("close", () => {
  const node = document.querySelector(`[data-id="${open}"]`);
  open = -1;
  if (node && !$("two").open) node.focus({ preventScroll: true });
  remember();
});

let waiting;
$("search").addEventListener("input", (event) => { clearTimeout(waiting); waiting = setTimeout(() => set({ search: event.target.value }), 120); });
for (const id of ["model", "layer", "class"]) $(id).addEventListener("change", (event) => set({ [id]: event.target.value }));
$("sort").addEventListener("change", (event) => set({ sort: event.target.value, down: event.target.value === "name" ? "" : "1" }));
$("order").addEventListener("click", () => set({ down: state.down ? "" : "1" }));
$("zoom").addEventListener("input", (event) => { state.zoom = event.target.value; document.documentElement.style.setProperty("--tile", state.zoom + "px"); remember(); });
$("view-grid").addEventListener("click", () => set({ view: "grid" }));
$("view-atlas").addEventListener("click", () => set({ view: "atlas" }));
$("reset").addEventListener("click", () => set({ ...START, view: state.view }));

if (left.length) { // what could not be read or shown
  $("left").hidden = false;
  $("left").querySelector("summary").textContent = `${left.length} could not be shown whole`;
  $("left").querySelector("ul").append(...left.map(([name, reason]) => make("li", {}, `${name}: ${reason}`)));
}

const wanted = new URLSearchParams(location.hash.slice(1));
for (const key of Object.keys(START)) if (wanted.has(key)) state[key] = wanted.get(key);
const first = items.find((item) => item.sidecar === wanted.get("open"));
show();
if (first) look(first.id);
