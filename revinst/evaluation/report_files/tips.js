// What a term means, where it is pointed at, focused or tapped. The words are those of the list at the page's end.
const tip = element("div", "tip");
let explained = null; // the link whose words are shown
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);

function explain(term) {
  explained = term;
  tip.hidden = !term;
  if (!term) return;
  tip.textContent = document.querySelector(`${term.hash} dd`).textContent;
  term.setAttribute("aria-describedby", tip.id);
  const box = term.getBoundingClientRect(), width = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(8, Math.min(box.left, width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.bottom + 6 + tip.offsetHeight < innerHeight ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
}

for (const term of document.querySelectorAll("a.term")) {
  for (const kind of ["mouseenter", "focus"]) term.addEventListener(kind, () => explain(term));
  for (const kind of ["mouseleave", "blur"]) term.addEventListener(kind, () => explain(null));
  term.addEventListener("click", (event) => { event.preventDefault(); explain(term); });
}
addEventListener("scroll", () => explain(explained), { passive: true, capture: true });
addEventListener("keydown", (event) => { if (event.key === "Escape") explain(null); });
