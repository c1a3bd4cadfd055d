"use strict";
// One result

function plot(traces) {
  const values = traces.flat().filter((value) => value !== null);
  const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "plot" + (traces.length > 1 ? " many" : ""));
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Trace from ${told(traces[0][0])} to ${told(traces[0].at(-1))}`);
  for (const trace of traces) {
    const line = document.createElementNS(ns, "polyline");
    const points = trace.map((value, i) => (value === null ? null : `${(2 + (i / (trace.length - 1)) * 96).toFixed(2)},${(94 - ((value - low) / span) * 88).toFixed(2)}`));
    line.setAttribute("points", points.filter(Boolean).join(" "));
    svg.append(line);
  }
  return make("div", {}, svg, make("div", { class: "axis" }, make("span", {}, `${told(low)} … ${told(high)}`), make("span", {}, "steps →")));
}

const table = (rows) => make("table", {}, ...rows.map(([key, value]) => make("tr", {}, make("th", {}, key), make("td", {}, told(value)))));
const section = (title, ...content) => [make("h3", {}, title), ...content];

function look(id) {
  const item = items[id];
  const at = shown.indexOf(item);
  open = id;
  const stage = make("div", { class: "stage" });
  if (item.picture) {
    stage.append(make("img", { src: item.picture, alt: item.name, class: tiny(item) && "small", title: "Click for the full size", onclick: (event) => event.target.classList.toggle("full") }));
  }
  const copy = make("button", { class: "copy", onclick: () => copyText(item.line, copy) }, "Copy");
  const others = item.files.filter((file) => file !== item.picture);
  const strip = [item.sidecar, ...others].map((file) => make("a", { href: file, target: "_blank", rel: "noopener" },
    isPicture(file) ? make("img", { src: file, loading: "lazy", alt: "" }) : null, decodeURIComponent(file.split("/").pop())));
  const changed = Object.entries(item.config).filter(([, value]) => value !== "" && value !== null);
  const all = Object.entries(resolved(item));
  $("one").replaceChildren(stage, make("div", { class: "panel" },
    make("div", { class: "bar" },
      make("button", { onclick: () => step(-1), disabled: at <= 0, "aria-label": "Previous" }, "←"),
      make("button", { onclick: () => step(1), disabled: at < 0 || at >= shown.length - 1, "aria-label": "Next" }, "→"),
      make("button", { onclick: () => mark(id) }, pair.includes(id) ? "Unmark" : "Compare"),
      make("button", { onclick: () => $("one").close(), "aria-label": "Close" }, "✕")),
    make("h2", { id: "one-title" }, item.name),
    make("p", {}, [item.command, item.model, item.size && item.size.join(" × ") + " px", item.seconds != null && told(item.seconds) + " s", item.device].filter(Boolean).join(" · ")),
    ...(Object.keys(item.scores).length ? section("Scores", table(Object.entries(item.scores))) : []),
    ...(item.traces.length ? section("Trace", plot(item.traces)) : []),
    ...section("Repeat it", make("pre", {}, item.line), copy),
    ...section("Settings", changed.length ? table(changed) : make("p", {}, "All defaults."), make("details", {}, make("summary", {}, `All ${all.length} settings`), table(all))),
    ...section("Files", make("div", { class: "strip" }, ...strip))));
  if (!$("one").open) $("one").showModal();
  $("one").scrollTop = 0;
  remember();
}

function step(by) {
  const next = shown[shown.indexOf(items[open]) + by];
  if (next) look(next.id);
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", {}); // where the clipboard is forbidden (plain files in some browsers)
    area.value = text;
    $("one").append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1200);
}

// Two results

function mark(id) {
  pair = pair.includes(id) ? pair.filter((other) => other !== id) : [...pair, id].slice(-2);
  showPair();
  if (!$("one").open) return;
  if (pair.length === 2 && pair.includes(open)) {
    $("one").close();
    compare();
  } else look(open);
}

function showPair() {
  document.querySelectorAll(".card").forEach((node) => node.classList.toggle("marked", pair.includes(Number(node.dataset.id))));
  const small = (n) => (pair[n] === undefined ? make("div", { class: "empty" }) : make("img", { src: items[pair[n]].thumbnail || "data:,", alt: items[pair[n]].name, title: items[pair[n]].name }));
  $("pair").hidden = pair.length === 0;
  $("pair").replaceChildren(small(0), small(1),
    make("button", { id: "compare", disabled: pair.length < 2, onclick: compare }, "Compare"),
    make("button", { onclick: () => { pair = []; showPair(); } }, "Clear"));
}

function compare() {
  if (pair.length < 2) return;
  const [a, b] = pair.map((id) => items[id]);
  const side = (item) => make("figure", {}, make("div", { class: "frame" }, item.picture ? make("img", { src: item.picture, alt: item.name, class: tiny(item) && "small" }) : "no picture"), make("figcaption", { title: item.name }, item.name));
  const rows = (left, right, all) => [...new Set([...Object.keys(left), ...Object.keys(right)])]
    .filter((key) => all || told(left[key]) !== told(right[key]))
    .map((key) => make("tr", {}, make("th", {}, key), make("td", {}, told(left[key])), make("td", {}, told(right[key]))));
  const settings = rows({ command: a.command, ...resolved(a) }, { command: b.command, ...resolved(b) }, false);
  $("two").replaceChildren(
    make("div", { class: "bar" }, make("button", { onclick: () => { pair.reverse(); compare(); } }, "Swap"), make("button", { onclick: () => $("two").close(), "aria-label": "Close" }, "✕")),
    make("div", { class: "sides" }, side(a), side(b)),
    make("div", { class: "differences panel" },
      ...section("Settings that differ", settings.length ? make("table", {}, ...settings) : make("p", {}, "None.")),
      ...section("Scores", make("table", {}, ...rows({ ...a.scores, seconds: a.seconds }, { ...b.scores, seconds: b.seconds }, true)))));
  if (!$("two").open) $("two").showModal();
}
