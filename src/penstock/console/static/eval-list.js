// Two evaluations of the list are chosen and compared: the older one is the baseline. `x` chooses the row in focus, `c` compares.

const place = document.querySelector("[data-compare]");
const link = place?.querySelector("[data-compare-link]");
const words = place?.querySelector("[data-compare-words]");
const picks = () => [...document.querySelectorAll("[data-evaluations] [data-pick]")];

function show(last) {
  let chosen = picks().filter((box) => box.checked);
  if (chosen.length > 2) {
    const first = chosen.find((box) => box !== last);
    first.checked = false;
    chosen = chosen.filter((box) => box !== first);
  }
  place.hidden = chosen.length === 0;
  link.hidden = chosen.length < 2;
  words.textContent = chosen.length === 1 ? "Choose one more to compare" : "";
  if (chosen.length < 2) return;
  const rows = chosen.map((box) => box.closest("tr"));
  rows.sort((one, other) => (BigInt(one.dataset.made) < BigInt(other.dataset.made) ? -1 : 1));
  link.href = `/evaluations/compare?${new URLSearchParams({ a: rows[0].dataset.id, b: rows[1].dataset.id })}`;
}

if (place) {
  for (const box of picks()) box.addEventListener("change", () => show(box));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select")) return;
    if (event.key === "x") {
      const box = document.activeElement?.closest("tr")?.querySelector("[data-pick]");
      if (!box) return;
      box.checked = !box.checked;
      show(box);
    } else if (event.key === "c" && !place.hidden && !link.hidden) link.click();
  });
  show(null);
}
