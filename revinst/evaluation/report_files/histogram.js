// How many of the rows that search and category find have a score in each range; a range that is pressed is shown alone.
const histogram = data.histogram;
let chosenBin = null;

function binOf(row) {
  const value = row[histogram.field], { low, high, bins } = histogram;
  return value === undefined ? -1 : Math.max(0, Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins)));
}

function drawBins() {
  if (!histogram) return;
  const counts = new Array(histogram.bins).fill(0);
  let unscored = 0;
  for (const number of matching) {
    const bin = binOf(rows[number]);
    if (bin < 0) unscored++;
    else counts[bin]++;
  }
  const most = Math.max(1, ...counts);
  [...byId("bins").children].forEach((button, bin) => {
    const [number, bar, range] = button.children;
    number.textContent = counts[bin];
    bar.style.height = `${(counts[bin] / most) * 6}rem`;
    button.setAttribute("aria-pressed", bin === chosenBin);
    button.setAttribute("aria-label", `${range.title}: ${counts[bin]} rows`);
  });
  byId("unscored").textContent = `and ${unscored} rows without this score`;
  byId("unscored").hidden = !unscored;
}

for (let bin = 0; bin < (histogram?.bins ?? 0); bin++) {
  const edge = (number) => (histogram.low + (number / histogram.bins) * (histogram.high - histogram.low)).toFixed(1);
  const button = element("button"), range = element("small", "", edge(bin));
  button.type = "button";
  range.title = `${edge(bin)} to ${edge(bin + 1)}`;
  button.append(element("span", "number"), element("i"), range);
  button.addEventListener("click", () => { chosenBin = chosenBin === bin ? null : bin; select(); });
  byId("bins").append(button);
}
