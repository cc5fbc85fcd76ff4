// One row as a whole, under an address of its own: #row-ID. Next and previous go by what is shown, in its order.
const detail = byId("detail");
let opened = -1; // number of the row

function open(number) {
  const row = rows[number], place = shown.indexOf(number);
  const numbers = Object.entries(row).filter(([, value]) => typeof value === "number");
  const texts = columns.flatMap((column) => [element("h3", "", column.label), written(row, column)]);
  if (row.samples)
    texts.push(element("h3", "", "samples"), written({ text: row.samples.map((text) => `• ${text}`).join("\n") }, { field: "text" }));
  opened = number;
  byId("whole").replaceChildren(element("p", "quiet", [row.category, row.id].filter(Boolean).join(" · ")), ...texts,
    element("h3", "", "scores"),
    ...numbers.map(([name, value]) => element("span", "score", `${name} ${value.toFixed(3)}`)));
  byId("place").textContent = place < 0 ? `row ${number + 1}` : `${place + 1} of ${shown.length}`;
  byId("link").href = anchor(row);
  byId("previous").disabled = !(place > 0);
  byId("next").disabled = place >= shown.length - 1;
  history.replaceState(null, "", anchor(row));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
}

function step(by) {
  const next = shown[shown.indexOf(opened) + by];
  if (next !== undefined) open(next);
}

function openAddressed() {
  const number = rows.findIndex((row) => anchor(row) === location.hash);
  if (number >= 0) open(number);
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
detail.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
});
detail.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  const place = shown.indexOf(opened);
  if (place < 0) return;
  const top = place * rowHeight();
  if (top < list.scrollTop || top + rowHeight() > list.scrollTop + list.clientHeight) list.scrollTop = top;
  render();
  canvas.querySelector(`[data-row="${opened}"] a`)?.focus();
});
canvas.addEventListener("click", (event) => {
  const found = event.target.closest(".row");
  if (!found || (getSelection().toString() && !event.target.closest("a")) || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  open(+found.dataset.row);
});
addEventListener("hashchange", openAddressed);
addEventListener("load", openAddressed);
