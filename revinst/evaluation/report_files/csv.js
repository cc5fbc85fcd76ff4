// The rows that are shown as a table (RFC 4180), with all that is known of each.
function toCsv(numbers) {
  const fields = [...new Set(rows.flatMap(Object.keys))];
  const lines = numbers.map((number) => fields.map((field) => quote(rows[number][field])));
  return [fields, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

function quote(value) {
  if (value === undefined) return "";
  if (typeof value === "number") return String(value);
  let text = Array.isArray(value) ? JSON.stringify(value) : value;
  if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`; // spreadsheets take it for a formula, and run it
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

byId("csv").addEventListener("click", () => {
  const link = element("a"), table = new Blob(["\uFEFF", toCsv(shown)], { type: "text/csv" }); // Excel reads no UTF-8 without the mark
  link.href = URL.createObjectURL(table);
  link.download = `${data.name}-${shown.length}-rows.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
});
