// Copying ids, links and requests, and going to the traces before and after in the list this one was opened from.

import { copy, parseExact } from "./trace-words.js";

const LIST = "penstock-traces-in-list";

export function startActions(root, panel, base, spanId) {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy-text], [data-copy-link], [data-copy-request]");
    if (!button) return;
    event.preventDefault();
    let text = button.dataset.copyText;
    if ("copyLink" in button.dataset) text = location.href;
    if ("copyRequest" in button.dataset) text = await curl(button, base, spanId()).catch(() => null);
    const words = button.textContent;
    button.textContent = text !== null && (await copy(text)) ? "Copied" : "Could not copy";
    setTimeout(() => (button.textContent = words), 1500);
  });
  showNeighbours(root);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "n") root.querySelector("[data-next]")?.click();
    if (event.key === "p") root.querySelector("[data-previous]")?.click();
    if (event.key === "y") root.querySelector("[data-copy-link]")?.click();
  });
}

// The request as a command; the key is a variable, as it is in every example.
async function curl(button, base, id) {
  const reply = await fetch(`/api/v1${base}/spans/${id}/payload`);
  const { input } = parseExact(await reply.text());
  const body = JSON.stringify(input, null, 1).replaceAll("'", "'\\''");
  return `curl ${button.dataset.copyRequest} \\\n  -H "authorization: Bearer $PENSTOCK_KEY" \\\n  -H "content-type: application/json" \\\n  -d '${body}'`;
}

function showNeighbours(root) {
  const place = root.querySelector("[data-neighbours]");
  let list = null;
  try {
    list = JSON.parse(sessionStorage.getItem(LIST));
  } catch {
    return;
  }
  const at = list?.ids?.indexOf(root.dataset.trace) ?? -1;
  if (at < 0 || list.ids.length < 2) return;
  const link = (name, step, words) => {
    const id = list.ids[at + step];
    const element = place.querySelector(`[data-${name}]`);
    if (id) element.href = `/traces/${id}${location.search.includes("view=") ? `?view=${root.dataset.view}` : ""}`;
    else element.removeAttribute("href");
    element.title = words;
  };
  link("previous", -1, "The trace before in the list (p)");
  link("next", 1, "The trace after in the list (n)");
  place.querySelector("[data-place-in-list]").textContent = `${at + 1} of ${list.ids.length}`;
  place.hidden = false;
}
