// Keyboard, palette, theme, menu and live regions: what every page has. Pages work without it.

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
const rows = () => [...document.querySelectorAll("main a.open")].filter((row) => row.offsetParent !== null);

function moveBy(step) {
  const all = rows();
  if (!all.length) return;
  const marked = document.querySelector("main a.open[aria-current]");
  const at = all.indexOf(document.activeElement);
  const from = at >= 0 ? at : all.indexOf(marked);
  const next = all[Math.min(Math.max(from + step, 0), all.length - 1)];
  next.focus({ focusVisible: true });
  next.scrollIntoView({ block: "nearest" });
  next.dispatchEvent(new CustomEvent("row-focus", { bubbles: true }));
}

function goBack() {
  const parts = location.pathname.split("/").filter(Boolean);
  if (parts.length < 2) return; // a list is not inside anything
  if (history.length > 1 && document.referrer.startsWith(location.origin)) history.back();
  else location.assign(`/${parts[0]}`);
}

function openDialog(name) {
  const dialog = document.getElementById(name);
  if (!dialog || dialog.open) return;
  dialog.showModal();
  const input = dialog.querySelector("input");
  if (input) {
    input.value = "";
    filterPalette("");
    input.focus();
  }
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openDialog("palette");
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    event.preventDefault();
    if (search) search.focus();
    else openDialog("palette");
  } else if (event.key === "?") openDialog("keys");
  else if (event.key === "j") moveBy(1);
  else if (event.key === "k") moveBy(-1);
  else if (event.key === "Escape") goBack();
});

// A click anywhere in a row opens it, unless it meant something else.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) openDialog(opener.dataset.open);
  const menu = event.target.closest("[data-menu]");
  if (menu) {
    const isOpen = document.getElementById("nav").classList.toggle("is-open");
    menu.setAttribute("aria-expanded", String(isOpen));
  }
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    navigator.clipboard?.writeText(document.querySelector("[data-secret]").textContent);
    copier.textContent = "Copied";
  }
  const opened = event.target.closest('a.open[href^="/traces/"]');
  if (opened) keepOrder();
  const row = event.target.closest("table.grid tbody tr");
  if (row && !event.target.closest("a, button, input, form, details") && !String(getSelection())) {
    row.querySelector("a.open")?.click();
  }
});

// The traces of this list in order, so that a trace's page can lead to the one before and after.
function keepOrder() {
  const ids = rows().map((link) => link.getAttribute("href").match(/^\/traces\/([0-9a-f]{32})/)?.[1]);
  try {
    sessionStorage.setItem("penstock-traces-in-list", JSON.stringify({ ids: [...new Set(ids.filter(Boolean))] }));
  } catch {
    // a browser that keeps nothing shows no way to the next one
  }
}

// The palette: pages by name, a trace by its id.
function filterPalette(text) {
  const list = document.querySelector("[data-palette-list]");
  if (!list) return;
  const wanted = text.trim().toLowerCase();
  list.querySelector("[data-trace]")?.remove();
  if (/^[0-9a-f]{32}$/.test(wanted)) {
    const item = document.createElement("li");
    item.dataset.trace = "";
    const link = document.createElement("a");
    link.href = `/traces/${wanted}`;
    link.textContent = `Trace ${wanted}`;
    item.append(link);
    list.prepend(item);
  }
  for (const item of list.children) {
    item.hidden = !("trace" in item.dataset) && !item.textContent.toLowerCase().includes(wanted);
  }
  pick(0);
}

function pick(step) {
  const shown = [...document.querySelectorAll("[data-palette-list] li:not([hidden]) a")];
  const at = shown.findIndex((link) => "picked" in link.dataset);
  for (const link of document.querySelectorAll("[data-palette-list] a")) delete link.dataset.picked;
  const next = shown[step === 0 ? 0 : Math.min(Math.max(at + step, 0), shown.length - 1)];
  if (next) {
    next.dataset.picked = "";
    next.scrollIntoView({ block: "nearest" });
  }
}

const paletteInput = document.querySelector("[data-palette-input]");
paletteInput?.addEventListener("input", () => filterPalette(paletteInput.value));
paletteInput?.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    pick(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    event.preventDefault();
    document.querySelector("[data-palette-list] a[data-picked]")?.click();
  }
});

// The theme changes in place; the server remembers it.
document.querySelector("[data-theme-form]")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const field = form.elements.theme;
  const theme = field.value;
  fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
  document.documentElement.dataset.theme = theme;
  form.querySelector("[data-theme-name]").textContent = theme;
  const order = ["auto", "light", "dark"];
  field.value = order[(order.indexOf(theme) + 1) % order.length];
});

// What is wrong with a form that came back is read first; its links go to the fields, out of closed groups too.
const problems = document.querySelector("[data-problems]");
problems?.focus();
problems?.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const field = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!field) return;
  event.preventDefault();
  for (let group = field.closest("details"); group; group = group.parentElement.closest("details")) group.open = true;
  field.focus({ preventScroll: true });
  field.scrollIntoView({ block: "center" });
});

for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// Empty fields do not clutter the URL of a filtered list.
for (const form of document.querySelectorAll('form.filters[method="get"]')) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}

// A live region asks for itself again until it says that it is final.
for (const region of document.querySelectorAll("[data-live]")) {
  const isFinal = () => region.querySelector("[data-final]")?.dataset.final === "yes";
  const wasFinal = isFinal();
  let last = "";
  const refresh = async () => {
    if (isFinal()) {
      if (!wasFinal) location.reload(); // the actions of the page change with the state
      return;
    }
    if (!document.hidden) {
      try {
        const reply = await fetch(region.dataset.live, { headers: { accept: "text/html" } });
        const text = reply.ok ? await reply.text() : last;
        if (text !== last) region.innerHTML = last = text; // what stays the same keeps its selection
      } catch {
        // the control process may be restarting; the next round asks again
      }
    }
    setTimeout(refresh, 1000);
  };
  if (!wasFinal) setTimeout(refresh, 1000);
}
