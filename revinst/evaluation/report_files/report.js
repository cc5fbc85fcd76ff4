"use strict";
// Only the rows in view are in the page, so 15,000 of them scroll as 15 do. Texts go in as text nodes, never as markup.
const rows = JSON.parse(document.getElementById("data").textContent);
const lead = document.getElementById("data").dataset.lead;
const byId = (id) => document.getElementById(id);
const [list, canvas, search, order, category, count] = ["list", "canvas", "search", "order", "category", "count"].map(byId);
const PRINTED_ROWS = 50, SPARE_ROWS = 4;
const texts = rows.map((row) =>
  [row.id, row.response, row.reference, row.prediction, row.nearest_train_instruction].join("\n").toLowerCase());
const orders = {
  file: null,
  worst: (row) => row[lead] ?? 2,
  best: (row) => -(row[lead] ?? -1),
  copied: (row) => -(row.copy_rate ?? -1),
  similar: (row) => -(row.max_similarity ?? -1),
};
let shown = [], drawn = "";

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Somebody's text: from right to left where its own letters run so.
function written(name, text) {
  const made = element("div", name, text);
  made.dir = "auto";
  return made;
}

function spell(value) {
  return typeof value === "number" ? value.toFixed(2) : "–";
}

function cell(label, text) {
  const made = element("div", "cell");
  made.append(element("i", "", label), written("", text ?? "–"));
  return made;
}

function marks(row) {
  const made = element("div", "marks");
  const value = row[lead], tone = value >= 0.5 ? "good" : value < 0.15 ? "bad" : "";
  made.append(element("span", "", "ROUGE-L"), element("span", tone, spell(value)));
  for (const [label, name] of [["chrF", "chrf"], ["copied", "copy_rate"], ["similar", "max_similarity"]])
    made.append(element("span", "", label), element("span", "", spell(row[name])));
  if (row.degenerate) made.append(element("span", "flag", "degenerate"));
  else if (row.stopped === "length") made.append(element("span", "flag", "cut at the limit"));
  return made;
}

function draw(number) {
  const row = rows[number], made = element("div", "row");
  made.dataset.row = number;
  made.tabIndex = 0;
  made.append(cell("response", row.response), cell("reference", row.reference), cell("prediction", row.prediction),
    cell("nearest training row", row.nearest_train_instruction), marks(row));
  return made;
}

function rowHeight() {
  return parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) *
    parseFloat(getComputedStyle(document.documentElement).fontSize);
}

function render() {
  const height = rowHeight();
  const first = Math.max(0, Math.floor(list.scrollTop / height) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + SPARE_ROWS);
  const view = `${first} ${last} ${height}`;
  if (view === drawn) return;
  drawn = view;
  canvas.style.height = `${shown.length * height}px`;
  canvas.replaceChildren(...shown.slice(first, last).map((number, position) => {
    const made = draw(number);
    made.style.top = `${(first + position) * height}px`;
    return made;
  }));
}

function select() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), key = orders[order.value];
  shown = [];
  rows.forEach((row, number) => {
    if (category.value && category.value !== `=${row.category}`) return;
    if (words.every((word) => texts[number].includes(word))) shown.push(number);
  });
  if (key) shown.sort((a, b) => key(rows[a]) - key(rows[b]) || a - b);
  count.textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  list.scrollTop = 0;
  drawn = "";
  render();
}

function open(row) {
  const parts = [["response", row.response], ["reference", row.reference], ["prediction", row.prediction],
    ["nearest training row", row.nearest_train_instruction ?? "–"]];
  if (row.samples) parts.splice(3, 0, ["samples", row.samples.map((text) => `• ${text}`).join("\n")]);
  const numbers = Object.entries(row).filter(([, value]) => typeof value === "number");
  byId("whole").replaceChildren(
    element("p", "quiet", [row.category, row.id].filter(Boolean).join(" · ")),
    ...parts.flatMap(([label, text]) => [element("h3", "", label), written("text", text)]),
    element("h3", "", "scores"),
    ...numbers.map(([name, value]) => element("span", "score", `${name} ${value.toFixed(3)}`)));
  byId("detail").showModal();
}

let waiting;
search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(select, 120); });
order.addEventListener("change", select);
category.addEventListener("change", select);
list.addEventListener("scroll", render, { passive: true });
addEventListener("resize", () => { drawn = ""; render(); });
canvas.addEventListener("click", (event) => {
  const found = event.target.closest(".row");
  if (found && !getSelection().toString()) open(rows[found.dataset.row]);
});
canvas.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.dataset.row) open(rows[event.target.dataset.row]);
});
byId("close").addEventListener("click", () => byId("detail").close());
byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });
// Paper does not scroll: it gets the first rows of the chosen order.
addEventListener("beforeprint", () => byId("printed").replaceChildren(
  element("p", "quiet", `The first ${Math.min(PRINTED_ROWS, shown.length)} of ${shown.length} rows, ${order.selectedOptions[0].text}`),
  document.querySelector(".heads").cloneNode(true),
  ...shown.slice(0, PRINTED_ROWS).map(draw)));
select();
