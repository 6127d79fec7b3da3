// The trace page: one tree, one selection and one URL under four views. Without this script rows are plain links.

import { FLAG, Tree, isFold, rowOf } from "./trace-tree.js";
import { MARKS, Rows } from "./trace-rows.js";
import { Timeline } from "./trace-timeline.js";
import { Messages } from "./trace-messages.js";
import { count, DASH, make, money } from "./trace-words.js";
import { startActions } from "./trace-actions.js";
import { startJson } from "./trace-json.js";

const VIEWS = ["tree", "timeline", "messages", "list"];
const POLL_MS = 2000;
const root = document.querySelector("[data-trace]");
const panel = document.querySelector("[data-panel]");
const find = (name) => root.querySelector(`[data-${name}]`);
const base = `/traces/${root.dataset.trace}`;
const state = { tree: null, row: -1, view: "tree", tag: null, isFoldChosen: false };

const rows = new Rows(root, { onSelect: (row) => choose(row), onToggle: toggle });
const timeline = new Timeline(root, {
  onSelect: (row) => choose(row),
  onZoom: (reach) => {
    rows.window = reach;
    find("unzoom").hidden = reach === null;
    if (state.view !== "timeline") rows.refresh();
    else rows.drawAxis();
  },
});
const messages = new Messages(find("messages"), base, { onSelect: (id) => choose(state.tree.rowOfId(id), { from: "messages" }) });

async function read() {
  const headers = state.tag ? { "if-none-match": state.tag } : {};
  const started = performance.now();
  const reply = await fetch(`/api/v1${base}/skeleton`, { headers, cache: "no-store" });
  if (reply.status === 304 || !reply.ok) return { tree: null, status: reply.status, took: performance.now() - started };
  state.tag = reply.headers.get("etag");
  return { tree: new Tree(await reply.json()), status: 200, took: performance.now() - started };
}

function writeUrl() {
  const url = new URL(location.href);
  const set = (name, value, usual) => (value && value !== usual ? url.searchParams.set(name, value) : url.searchParams.delete(name));
  set("view", state.view, "tree");
  set("q", find("filter").value.trim());
  set("path", state.tree?.onlyCritical ? "critical" : "");
  if (state.row >= 0 && state.chosen) url.searchParams.set("span", state.tree.ids[state.row]);
  url.searchParams.delete("rows");
  history.replaceState(null, "", url);
}

// Selecting: every view and the panel follow, the URL says it.
function choose(row, { from = "", quick = false, isFoldChosen = false, center = false } = {}) {
  if (row < 0 || !state.tree) return;
  const isSame = row === state.row && state.chosen;
  state.row = row;
  state.chosen = true;
  state.isFoldChosen = isFoldChosen;
  if (!isFoldChosen && state.tree.placeOf(row) < 0) {
    state.tree.reveal(row);
    arrange();
  }
  rows.select(row, { isFoldChosen, center });
  timeline.select(row);
  if (from !== "messages") messages.select(state.tree.ids[row], state.view === "messages");
  writeUrl();
  if (!isSame) openPanel(row, quick ? 90 : 0);
}

let asked = null;
function openPanel(row, wait) {
  clearTimeout(asked?.timer);
  asked?.stop.abort();
  const stop = new AbortController();
  asked = { stop, timer: setTimeout(() => fillPanel(state.tree.ids[row], stop), wait) };
}

async function fillPanel(id, stop) {
  const slow = setTimeout(() => panel.classList.add("is-waiting"), 300);
  try {
    const reply = await fetch(`${base}/spans/${id}`, { headers: { accept: "text/html" }, signal: stop.signal });
    const text = await reply.text();
    if (reply.ok) panel.innerHTML = text;
    else panel.replaceChildren(make("p", "problem", reply.status === 401 ? "You are signed out; reload the page." : `This span could not be read (${reply.status}).`));
    panel.scrollTop = 0;
    dressPanel();
  } catch (error) {
    if (error.name !== "AbortError") panel.replaceChildren(make("p", "problem", "The control process did not answer; choose the span again."));
  } finally {
    clearTimeout(slow);
    panel.classList.remove("is-waiting");
  }
}

// What only the tree knows of the chosen span: sums of what is below it.
function dressPanel() {
  const place = panel.querySelector("[data-sums]");
  const { tree, row } = state;
  const marks = MARKS.filter(([flag]) => tree?.has(row, flag) && !(flag === FLAG.orphan && tree.is_live)).map(([, , why]) => make("p", "warn", `${why}.`));
  panel.querySelector("[data-marks]")?.replaceChildren(...marks);
  if (!place || !tree || row < 0 || !tree.below[row]) return;
  const sums = tree.subtree(row);
  const share = (100 * (tree.end(row) - tree.starts[row])) / Math.max(1, tree.duration_us);
  const unpriced = `no price for ${count(sums.unpriced)} of the calls`;
  const pairs = [["spans below", count(tree.below[row])]];
  if (sums.calls) {
    pairs.push(["model calls", count(sums.calls)], ["tokens", `${count(sums.tokensIn)} in, ${count(sums.tokensOut)} out`]);
    pairs.push(["cost", [sums.cost === null ? "" : money(sums.cost), sums.unpriced ? unpriced : ""].filter(Boolean).join(", ") || DASH]);
  }
  pairs.push(["failed", sums.errors ? count(sums.errors) : "none"], ["of the trace", `${share > 0 && share < 0.1 ? "< 0.1" : share.toFixed(1)} % of the time`]);
  const list = make("dl", "pairs num");
  for (const [name, value] of pairs) list.append(make("dt", "", name), make("dd", "", value));
  place.replaceChildren(make("h3", "", "With everything below"), list);
}

function arrange() {
  state.tree.arrange(state.view);
  rows.show(state.tree, state.view);
  const { tree } = state;
  const isNarrowed = tree.matches !== null || tree.onlyCritical;
  const shown = isNarrowed ? `${count(tree.nMatches)} of ${count(tree.size)} match` : `${count(tree.entries.length)} of ${count(tree.size)} rows shown`;
  const whole = tree.size === 1 ? "1 row" : `${count(tree.size)} rows`;
  const isWhole = (tree.entries.length === tree.size || state.view === "timeline" || state.view === "messages") && !isNarrowed;
  find("shown").textContent = isWhole ? whole : shown;
}

// The rows take what is left of the window below the head of the page.
function makeRoom() {
  const top = root.querySelector(".split").getBoundingClientRect().top + scrollY;
  root.style.setProperty("--room", `${Math.max(360, innerHeight - top - 60)}px`);
}

function showView(view) {
  state.view = VIEWS.includes(view) ? view : "tree";
  root.dataset.view = state.view;
  for (const tab of root.querySelectorAll("[data-tab]")) {
    if (tab.dataset.tab === state.view) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  if (!state.tree) return;
  arrange();
  if (state.view === "timeline") timeline.show(state.tree);
  if (state.view === "messages") messages.open(state.row >= 0 ? state.tree.ids[state.row] : null);
  if (state.row >= 0) {
    rows.select(state.row, { isFoldChosen: state.isFoldChosen, center: true });
    timeline.select(state.row);
  }
  writeUrl();
}

function toggle(entry, isRun) {
  const { tree } = state;
  const row = rowOf(entry);
  if (isFold(entry)) tree.unfolded.add(row);
  else if (isRun) tree.unfolded.delete(tree.headOf(row));
  else tree.collapsed[row] = tree.collapsed[row] ? 0 : 1;
  arrange();
  const isFoldChosen = !isFold(entry) && isRun;
  if (state.row >= 0) choose(isFoldChosen ? tree.headOf(row) : tree.placeOf(state.row) < 0 ? row : state.row, { isFoldChosen });
}

function step(by) {
  const { tree } = state;
  const at = state.isFoldChosen ? tree.entries.indexOf(-state.row - 1) : tree.placeOf(state.row);
  const entry = tree.entries[Math.min(Math.max((at < 0 ? 0 : at) + by, 0), tree.entries.length - 1)];
  if (entry !== undefined) choose(rowOf(entry), { quick: true, isFoldChosen: isFold(entry) });
}

function goLeft() {
  const { tree, row } = state;
  if (state.view !== "tree") return step(-1);
  if (tree.below[row] && !tree.collapsed[row] && !state.isFoldChosen) return toggle(row, false);
  if (!state.isFoldChosen && tree.headOf(row) >= 0 && tree.parents[row] < 0) return toggle(row, true);
  if (tree.parents[row] >= 0) choose(tree.parents[row], { quick: true });
}

function goRight() {
  const { tree, row } = state;
  if (state.view !== "tree") return step(1);
  if (state.isFoldChosen) return toggle(-row - 1, true);
  if (tree.collapsed[row]) return toggle(row, false);
  if (tree.below[row]) step(1);
}

function sibling(by) {
  const next = state.tree.sibling(state.row, by);
  if (next >= 0) choose(next, { quick: true });
}

function nextError(by) {
  const row = state.tree.nextError(state.row, by);
  if (row >= 0) choose(row, { center: true });
}

function setCritical(isOnly) {
  state.tree.onlyCritical = isOnly;
  find("critical").setAttribute("aria-pressed", String(isOnly));
  showView(state.view);
}

function setAll(isCollapsed) {
  state.tree.setAll(isCollapsed);
  arrange();
  if (state.row >= 0) rows.select(state.row);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  PageDown: () => step(20),
  PageUp: () => step(-20),
  Home: () => choose(rowOf(state.tree.entries[0] ?? 0)),
  End: () => choose(rowOf(state.tree.entries.at(-1) ?? 0)),
  ArrowLeft: goLeft,
  ArrowRight: goRight,
  "[": () => sibling(-1),
  "]": () => sibling(1),
  e: () => nextError(1),
  E: () => nextError(-1),
  c: () => setCritical(!state.tree.onlyCritical),
  x: () => setAll(false),
  X: () => setAll(true),
  z: () => timeline.zoomTo(state.row),
  "+": () => timeline.zoom(0.5),
  "-": () => timeline.zoom(2),
  1: () => showView("tree"),
  2: () => showView("timeline"),
  3: () => showView("messages"),
  4: () => showView("list"),
};

// Before the keys that every page has.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !state.tree || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select, summary, [contenteditable]")) return;
    if (panel.contains(event.target) && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    let act = KEYS[event.key];
    if (event.key === "Enter" && event.target.closest("[data-rows]")) act = () => panel.focus();
    if (event.key === "Escape" && timeline.window) act = () => timeline.setWindow(null);
    else if (event.key === "Escape" && panel.contains(document.activeElement)) act = () => rows.view.focus();
    if (!act) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    act();
  },
  true,
);

function listen() {
  root.addEventListener("click", (event) => {
    const tab = event.target.closest("[data-tab]");
    if (!tab || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    showView(tab.dataset.tab);
  });
  find("critical").addEventListener("click", () => setCritical(!state.tree.onlyCritical));
  find("expand").addEventListener("click", () => setAll(false));
  find("collapse").addEventListener("click", () => setAll(true));
  find("next-error")?.addEventListener("click", () => nextError(1));
  find("unzoom").addEventListener("click", () => timeline.setWindow(null));
  let typing = null;
  find("filter").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => applyFilter(find("filter").value), 60);
  });
  find("filter").closest("form").addEventListener("submit", (event) => {
    event.preventDefault();
    rows.view.focus();
    if (state.tree?.matches) choose(state.tree.entries.find((row) => state.tree.matches[row]) ?? -1);
  });
}

function applyFilter(text) {
  state.tree.filter(text);
  showView(state.view);
}

function take(tree) {
  if (state.tree) {
    tree.takeOver(state.tree);
    if (state.row >= 0) state.row = Math.max(0, tree.rowOfId(state.tree.ids[state.row]));
  }
  rows.selected = timeline.selected = state.row;
  state.tree = tree;
  timeline.tree = tree;
  tree.filter(find("filter").value);
}

// A trace that is still going on asks for itself again, less often the longer an answer takes.
async function follow() {
  const note = find("going-on");
  while (state.tree.is_live) {
    note.hidden = false;
    await new Promise((resolve) => setTimeout(resolve, Math.max(POLL_MS, 10 * (state.took ?? 0))));
    if (document.hidden) continue;
    try {
      const { tree, took } = await read();
      state.took = took;
      if (!tree) continue;
      take(tree);
      arrange(); // what is scrolled to stays in view
      if (state.view === "timeline") timeline.show(tree);
      else if (state.view !== "messages") messages.isOpen = false; // read anew when it is opened
      showPath(tree);
      await showSums();
      note.textContent = `still going on · ${count(tree.n_spans)} spans`;
    } catch {
      // the control process may be restarting; the next round asks again
    }
  }
  note.hidden = true;
}

// What the head says of the whole trace is the server's to add up.
async function showSums() {
  const reply = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!reply.ok) return;
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  for (const place of [".strip", ".trace > .head .state"]) {
    const [now, then] = [document.querySelector(place), fresh.querySelector(place)];
    if (now && then) now.replaceWith(document.adoptNode(then));
  }
}

// Where the time of the critical path went.
function showPath(tree) {
  const place = find("path");
  place.hidden = !tree.path.length;
  place.replaceChildren(
    "Critical path: ",
    ...tree.path.map(([name, share, row]) => {
      const entry = make("span");
      const link = make("a", "", name);
      link.href = `?span=${tree.ids[row]}`;
      link.addEventListener("click", (event) => {
        event.preventDefault();
        choose(row, { center: true });
      });
      entry.append(link, " ", make("span", "num", `${share} %`));
      return entry;
    }),
  );
}

async function start() {
  const wanted = new URLSearchParams(location.search);
  startActions(root, panel, base, () => state.tree?.ids[state.row]);
  startJson(panel, base);
  find("filter").value = wanted.get("q") ?? "";
  const { tree, status } = await read();
  if (!tree) {
    find("shown").textContent = `the tree could not be read (${status})`;
    return;
  }
  take(tree);
  tree.onlyCritical = wanted.get("path") === "critical";
  find("critical").setAttribute("aria-pressed", String(tree.onlyCritical));
  root.classList.add("is-drawn");
  addEventListener("resize", makeRoom);
  for (const element of root.querySelectorAll("[data-needs-script]")) element.hidden = false;
  const drawn = panel.querySelector("[data-span-id]")?.dataset.spanId;
  state.row = Math.max(0, drawn ? tree.rowOfId(drawn) : tree.root);
  state.chosen = wanted.has("span");
  if (state.chosen) tree.reveal(state.row);
  showPath(tree);
  makeRoom();
  listen();
  showView(wanted.get("view") ?? "tree");
  if (drawn) dressPanel();
  else openPanel(state.row, 0);
  rows.view.focus({ preventScroll: true });
  root.dataset.ready = "";
  performance.mark("trace-ready");
  follow();
}

start();
