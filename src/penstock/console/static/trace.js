// Selecting a span swaps the panel and keeps the URL; without it each row is a plain link.

const fall = document.querySelector("[data-waterfall]");
const panel = document.querySelector("[data-panel]");
let wanted = 0;

async function select(row) {
  const turn = ++wanted;
  const reply = await fetch(`${location.pathname}/spans/${row.dataset.span}`, { headers: { accept: "text/html" } });
  if (!reply.ok) {
    location.assign(row.href);
    return;
  }
  const text = await reply.text();
  if (turn !== wanted) return; // a later choice overtook this one
  panel.innerHTML = text;
  for (const other of fall.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
  row.setAttribute("aria-current", "true");
  history.replaceState(null, "", `?span=${row.dataset.span}`);
}

fall?.addEventListener("click", (event) => {
  const row = event.target.closest("[data-span]");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  select(row);
});
fall?.addEventListener("row-focus", (event) => select(event.target));
