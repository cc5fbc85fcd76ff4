// The list of rows. Only those in view are in the page, so 15,000 of them scroll as 15 do. Texts go in as text nodes,
// never as markup. What there is to show, a `RowList` of page.py, lies in the page as JSON.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent), { rows, columns } = data, lead = byId("data").dataset.lead;
const [list, canvas, search, order, category, count] = ["list", "canvas", "search", "order", "category", "count"].map(byId);
const ruler = list.appendChild(element("div", "row ruler"));
const PRINTED_ROWS = 50, SPARE_ROWS = 4;
const searched = rows.map((row) => [row.id, ...columns.map((column) => row[column.field])].join("\n").toLowerCase());
let matching = [], shown = [], drawn = ""; // numbers of rows: found by search and category; of the chosen bin as well

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Somebody's text: from right to left where its own letters run so. With marked words where its column asks for them.
function written(row, column) {
  const made = element("div", "text"), text = row[column.field], other = row[column.against];
  made.dir = "auto";
  if (text === "") made.append(element("i", "quiet", "empty"));
  else if (text === undefined || !column.against || other === undefined) made.textContent = text ?? "–";
  else made.append(...markWords(text, other).map((part) => part.isMarked ? element(column.mark, "", part.text) : part.text));
  return made;
}

function spell(value) {
  return typeof value === "number" ? value.toFixed(2) : "–";
}

function cell(row, column) {
  const made = element("div", "cell");
  made.append(element("i", "", column.label), written(row, column));
  return made;
}

function anchor(row) {
  return `#row-${encodeURIComponent(row.id)}`;
}

function marks(row, number) {
  const made = element("div", "marks"), value = row[lead], [low, high] = data.tones ?? [];
  const tone = value >= high ? "good" : value < low ? "bad" : "";
  const link = element("a", "to-row", `row ${(number + 1).toLocaleString("en")}`);
  link.href = anchor(row);
  made.append(link);
  for (const [name, label] of Object.entries(data.scores))
    made.append(element("span", "", label), element("span", name === lead ? tone : "", spell(row[name])));
  if (row.degenerate) made.append(element("span", "flag", "degenerate"));
  else if (row.stopped === "length") made.append(element("span", "flag", "cut at the limit"));
  return made;
}

function draw(number) {
  const row = rows[number], made = element("div", "row");
  made.dataset.row = number;
  made.append(...columns.map((column) => cell(row, column)), marks(row, number));
  return made;
}

function rowHeight() {
  return ruler.offsetHeight;
}

function render() {
  const height = rowHeight();
  canvas.style.height = `${shown.length * height}px`; // before the list is measured, which is no higher than its rows
  const first = Math.max(0, Math.floor(list.scrollTop / height) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + SPARE_ROWS);
  const view = `${first} ${last} ${height}`;
  if (view === drawn) return;
  drawn = view;
  canvas.replaceChildren(...shown.slice(first, last).map((number, position) => {
    const made = draw(number);
    made.style.top = `${(first + position) * height}px`;
    return made;
  }));
}

function compareBy({ field, highest_first }) {
  const worth = (number) => rows[number][field] === undefined ? -Infinity : (highest_first ? 1 : -1) * rows[number][field];
  return (a, b) => worth(b) - worth(a) || a - b;
}

function select() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  matching = rows.flatMap((row, number) =>
    (!category.value || category.value === `=${row.category}`) && words.every((word) => searched[number].includes(word))
      ? [number] : []);
  if (order.value) matching.sort(compareBy(data.orders[order.value]));
  shown = matching.filter((number) => chosenBin === null || binOf(rows[number]) === chosenBin);
  drawBins();
  count.textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  list.scrollTop = 0;
  drawn = "";
  render();
}

const shares = columns.map((column) => `${column.share}fr`);
document.documentElement.style.setProperty("--columns", shares.join(" "));
document.documentElement.style.setProperty("--texts", columns.length);
byId("heads").append(...[...columns.map((column) => column.label), "scores"].map((label) => element("b", "", label)));

let waiting;
search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(select, 120); });
order.addEventListener("change", select);
category.addEventListener("change", select);
list.addEventListener("scroll", render, { passive: true });
addEventListener("resize", () => { drawn = ""; render(); });
// Paper does not scroll: it gets the first rows of the chosen order.
addEventListener("beforeprint", () => byId("printed").replaceChildren(
  element("p", "quiet", `The first ${Math.min(PRINTED_ROWS, shown.length)} of ${shown.length} rows, ${order.selectedOptions[0].text}`),
  byId("heads").cloneNode(true),
  ...shown.slice(0, PRINTED_ROWS).map(draw)));
