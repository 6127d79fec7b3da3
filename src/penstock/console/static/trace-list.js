// Around the list of traces: the strip over time, values to narrow to, columns, two rows to compare, and new rows that
// come in on top without moving what is being read.

import { attachPlots } from "./plots.js";

const LIVE_EVERY_MS = 2000;
const STRIP_EVERY = 10; // rounds
const MAX_ROWS = 500;

const list = document.querySelector("[data-list]");
const body = document.querySelector("[data-rows]");

async function fetchInto(place, url) {
  try {
    const reply = await fetch(url, { headers: { accept: "text/html" } });
    if (!reply.ok) return false;
    const text = await reply.text();
    place.innerHTML = text; // our own page, escaped there
    return true;
  } catch {
    return false; // the control process may be restarting
  }
}

// The strip: asked for when the list stands.
const strip = document.querySelector("[data-strip]");
async function showStrip() {
  if (strip && (await fetchInto(strip, strip.dataset.strip))) attachPlots(strip);
}
if (strip) showStrip();

// Values to narrow to: counted when somebody looks.
const facets = document.querySelector("[data-facets]");
facets?.addEventListener("toggle", async () => {
  const box = facets.querySelector("[data-facets-box]");
  if (!facets.open || box.dataset.isFilled) return;
  if (await fetchInto(box, facets.dataset.facets)) box.dataset.isFilled = "yes";
  else box.textContent = "The values could not be counted.";
});

// One drop-down is open at a time; Escape and a click elsewhere close it.
const drops = [...document.querySelectorAll("details.drop")];
for (const drop of drops) {
  drop.addEventListener("toggle", () => {
    if (drop.open) for (const other of drops) if (other !== drop) other.open = false;
  });
}
document.addEventListener("click", (event) => {
  for (const drop of drops) if (drop.open && !drop.contains(event.target)) drop.open = false;
});
document.addEventListener(
  "keydown",
  (event) => {
    const open = drops.find((drop) => drop.open);
    if (event.key !== "Escape" || !open) return;
    open.open = false;
    open.querySelector("summary").focus();
    event.stopPropagation();
  },
  true,
);

// Columns: the boxes become one parameter, in the order of the table.
const columns = document.querySelector("[data-columns]");
columns?.addEventListener("submit", () => {
  const names = [...columns.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value);
  columns.elements.cols.value = ["asked", ...names].join(",");
});

// Two rows to compare.
const compare = document.querySelector("[data-compare]");
const picks = () => [...document.querySelectorAll(".pick input:checked")];
function showPicks() {
  if (!compare) return;
  const chosen = picks();
  compare.hidden = chosen.length === 0;
  const link = compare.querySelector("[data-compare-link]");
  const words = compare.querySelector("[data-compare-words]");
  link.hidden = chosen.length !== 2;
  words.textContent = chosen.length === 1 ? "Choose one more to compare" : chosen.length > 2 ? "Choose two, not more" : "";
  if (chosen.length === 2) link.href = `/traces/diff?${new URLSearchParams({ a: chosen[0].value, b: chosen[1].value })}`;
}
body?.addEventListener("change", showPicks);
showPicks(); // the browser may have kept the marks

// Live: new rows come in on top.
class Live {
  constructor(button, url) {
    this.button = button;
    this.url = url;
    this.isOn = false;
    this.nNew = 0;
    this.jump = document.createElement("button");
    this.jump.type = "button";
    this.jump.className = "jump";
    this.jump.hidden = true;
    this.jump.addEventListener("click", () => {
      list.scrollTo({ top: 0 });
      this.showCount(0);
    });
    list.before(this.jump);
    list.addEventListener("scroll", () => {
      if (list.scrollTop === 0) this.showCount(0);
    });
    button.addEventListener("click", () => this.toggle());
    if (sessionStorage.getItem("penstock-live") === location.search) this.toggle();
  }

  toggle() {
    this.isOn = !this.isOn;
    this.button.setAttribute("aria-pressed", String(this.isOn));
    if (this.isOn) sessionStorage.setItem("penstock-live", location.search);
    else sessionStorage.removeItem("penstock-live");
    clearTimeout(this.timer);
    if (this.isOn) this.round();
  }

  async round() {
    const began = performance.now();
    if (!document.hidden) await this.refresh();
    this.rounds = (this.rounds ?? 0) + 1;
    if (this.rounds % STRIP_EVERY === 0 && !document.hidden && !strip?.matches(":hover")) showStrip();
    const took = performance.now() - began;
    // A search that takes long is asked less often.
    if (this.isOn) this.timer = setTimeout(() => this.round(), Math.max(LIVE_EVERY_MS, 5 * took));
  }

  async refresh() {
    let text;
    try {
      const reply = await fetch(this.url, { headers: { accept: "text/html" } });
      if (!reply.ok) return;
      text = await reply.text();
    } catch {
      return; // the control process may be restarting; the next round asks again
    }
    const incoming = [...new DOMParser().parseFromString(text, "text/html").querySelectorAll("tr[data-id]")];
    const known = new Map([...body.rows].map((row) => [row.dataset.id, row]));
    const fresh = incoming.filter((row) => !known.has(row.dataset.id));
    const isBroken = incoming.length > 0 && fresh.length === incoming.length && known.size > 0;
    for (const row of incoming) {
      const old = known.get(row.dataset.id);
      if (old) this.update(old, row);
    }
    if (fresh.length) this.insert(fresh, isBroken);
  }

  // A row that changed (its end or its price came) is drawn anew; its mark and its focus stay.
  update(old, row) {
    for (const [at, cell] of [...row.cells].entries()) {
      const shown = old.cells[at];
      if (cell.classList.contains("pick") || shown.contains(document.activeElement)) continue;
      if (shown.innerHTML !== cell.innerHTML) shown.innerHTML = cell.innerHTML;
    }
  }

  insert(fresh, isBroken) {
    const before = list.scrollHeight;
    const top = list.scrollTop;
    if (isBroken) {
      const gap = body.insertRow(0);
      gap.className = "gap-row";
      const cell = gap.insertCell();
      cell.colSpan = fresh[0].cells.length;
      cell.textContent = "More came in than fits here. Reload for an unbroken list.";
    }
    for (const row of fresh.reverse()) {
      const placed = document.importNode(row, true);
      placed.classList.add("is-new");
      body.prepend(placed);
    }
    while (body.rows.length > MAX_ROWS) body.deleteRow(-1);
    if (top > 0 && list.scrollTop === top) list.scrollTop = top + list.scrollHeight - before;
    if (top > 0) this.showCount(this.nNew + fresh.length);
  }

  showCount(count) {
    this.nNew = count;
    this.jump.hidden = count === 0;
    this.jump.textContent = `${count} new above`;
  }
}

const toggle = document.querySelector("[data-live-toggle]");
const live = toggle && list?.dataset.liveRows ? new Live(toggle, list.dataset.liveRows) : null;

// A list in which nothing stands yet waits for the first row and begins anew with it.
const place = document.querySelector("[data-live-empty]");
let waiting = 0;
async function lookForFirst() {
  try {
    const reply = await fetch(place.dataset.liveEmpty, { headers: { accept: "text/html" } });
    if (reply.ok && (await reply.text()).includes("<tr data-id=")) {
      sessionStorage.setItem("penstock-live", location.search);
      location.reload();
    }
  } catch {
    // the next look asks again
  }
}
if (toggle && !live && place) {
  toggle.addEventListener("click", () => {
    const isOn = waiting === 0;
    toggle.setAttribute("aria-pressed", String(isOn));
    clearInterval(waiting);
    waiting = isOn ? setInterval(lookForFirst, LIVE_EVERY_MS) : 0;
  });
} else if (toggle && !live) toggle.hidden = true;

// Keys of the list: x marks a row, c compares, l follows.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "x") {
    const row = document.activeElement?.closest("tr[data-id]");
    const box = row?.querySelector(".pick input");
    if (!box) return;
    box.checked = !box.checked;
    showPicks();
  } else if (event.key === "c") {
    const link = document.querySelector("[data-compare-link]");
    if (link && !link.hidden && !compare.hidden) link.click();
  } else if (event.key === "l") toggle?.click();
});
