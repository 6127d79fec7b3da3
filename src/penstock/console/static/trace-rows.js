// Draws the rows of a tree: only those in view are in the document, and a narrow picture of all of them beside it.

import { FLAG, fold, isFold, rowOf } from "./trace-tree.js";
import { BARS, barOf, colours, count, make, money, span } from "./trace-words.js";

export const ROW = 26;
const SPARE = 8;
const INDENT = 12;
const MAX_INDENT = 15;
const MAP_ROWS = 3; // rows drawn for each line of the small picture, at most

export class Rows {
  constructor(root, { onSelect, onToggle }) {
    this.view = root.querySelector("[data-rows]");
    this.map = root.querySelector("[data-map]");
    this.axis = root.querySelector("[data-axis]");
    this.onSelect = onSelect;
    this.onToggle = onToggle;
    this.pool = new Map();
    this.tree = null;
    this.selected = -1;
    this.window = null;
    this.sheet = make("div", "fall-sheet");
    this.sheet.setAttribute("role", "presentation");
    this.view.replaceChildren(this.sheet);
    this.view.setAttribute("role", "tree");
    this.view.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    new ResizeObserver(() => this.resized()).observe(this.view);
    this.view.addEventListener("click", (event) => this.clicked(event));
    this.map.addEventListener("pointerdown", (event) => this.scrub(event));
    this.map.addEventListener("pointermove", (event) => event.buttons && this.scrub(event));
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColours());
    new MutationObserver(() => this.readColours()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  readColours() {
    this.colours = colours(BARS);
    if (this.tree) this.drawMap();
  }

  show(tree, view) {
    this.tree = tree;
    this.flat = view === "list";
    this.dearest = Math.max(...["cost"].map(() => tree.sums(0, tree.size).cost ?? 0), 0);
    this.refresh();
  }

  // After rows were opened, closed or filtered.
  refresh() {
    this.sheet.style.height = `${this.tree.entries.length * ROW}px`;
    this.view.style.maxHeight = `${Math.max(4, this.tree.entries.length) * ROW + 1}px`; // few rows need less room
    for (const element of this.pool.values()) element.remove();
    this.pool.clear();
    this.resized();
    this.draw();
  }

  resized() {
    if (!this.tree) return;
    this.drawMap();
    this.drawAxis();
    this.drawSoon();
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.tree) return;
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW) - SPARE);
    const last = Math.min(this.tree.entries.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / ROW) + SPARE);
    for (const [place, element] of this.pool) {
      if (place < first || place >= last) {
        element.remove();
        this.pool.delete(place);
      }
    }
    const fresh = document.createDocumentFragment();
    for (let place = first; place < last; place += 1) {
      if (this.pool.has(place)) continue;
      const element = this.build(place);
      this.pool.set(place, element);
      fresh.append(element);
    }
    this.sheet.append(fresh);
    this.drawMapWindow();
  }

  build(place) {
    const { tree } = this;
    const entry = tree.entries[place];
    const row = rowOf(entry);
    const element = make("a", "fall-row");
    element.id = `row-${place}`;
    element.href = `?span=${tree.ids[row]}`;
    element.tabIndex = -1;
    element.dataset.place = place;
    element.dataset.span = tree.ids[row];
    element.setAttribute("role", "treeitem");
    element.style.transform = `translateY(${place * ROW}px)`;
    if (!this.flat) element.setAttribute("aria-level", tree.depths[row] + 1);
    const isChosen = row === this.selected && (!isFold(entry) || this.isFoldChosen);
    if (isChosen) this.markChosen(element);
    if (isFold(entry)) this.fillFold(element, row);
    else this.fillRow(element, row);
    return element;
  }

  fillRow(element, row) {
    const { tree } = this;
    const isError = tree.isError(row);
    const sums = tree.below[row] ? tree.subtree(row) : null;
    const name = this.nameCell(row, tree.below[row] > 0 && !this.flat, !tree.collapsed[row] || tree.matches !== null);
    if (tree.runs.has(row) && !this.flat) name.append(this.runButton(row, `1 of ${count(tree.runs.get(row))}`, "Show them as one"));
    name.append(make("span", "kind", tree.kind(row)), " ", make("span", isError ? "bad" : "", tree.name(row)));
    for (const [flag, word, why] of MARKS) {
      if (tree.has(row, flag)) {
        const isAwaited = flag === FLAG.orphan && tree.is_live;
        const mark = make("span", isAwaited ? "faint mark-word" : "warn mark-word", isAwaited ? "parent to come" : word);
        mark.title = isAwaited ? "Its parent has not come yet" : why;
        name.append(mark);
      }
    }
    if (tree.scores[row]) name.append(make("span", "mark-word", `${tree.scores[row]} ${tree.scores[row] === 1 ? "score" : "scores"}`));
    if (tree.collapsed[row] && !tree.matches && !this.flat) {
      name.append(make("span", "faint mark-word", `+${count(tree.below[row])}`));
      if (sums.errors && !isError) name.append(make("span", "bad mark-word", `${count(sums.errors)} failed`));
    }
    const cost = sums ? sums.cost : tree.cost[row];
    this.stripe(element, cost);
    const track = make("span", "track");
    this.bar(track, tree.starts[row], tree.end(row), barOf(tree.kind(row), isError), tree.has(row, FLAG.open) ? "is-open" : "");
    if (tree.has(row, FLAG.critical)) track.lastChild?.classList.add("is-critical");
    if (tree.ttft[row] !== null && this.place(tree.end(row)) - this.place(tree.starts[row]) > 2) this.tick(track, tree.starts[row] + tree.ttft[row]);
    element.append(name, track, make("span", "num cost", cost === null ? "" : money(cost)), make("span", "num", tree.lengths[row] === null ? "open" : span(tree.lengths[row])));
    if (tree.below[row] && !this.flat) element.setAttribute("aria-expanded", String(!tree.collapsed[row]));
    element.title = this.describe(row, sums);
    if (tree.matches?.[row] === 0) element.classList.add("is-context");
  }

  fillFold(element, row) {
    const { tree } = this;
    const members = tree.members(row);
    const end = tree.runEnd(row);
    const sums = tree.sums(row, end);
    const name = this.nameCell(row, true, false);
    name.append(this.runButton(row, `×${count(members.length)}`, "Show each of them"), make("span", "kind", tree.kind(row)), " ", make("span", "", tree.name(row)));
    if (sums.errors) name.append(make("span", "bad mark-word", `${count(sums.errors)} failed`));
    const track = make("span", "track");
    const shown = members.length > 80 ? members.filter((_, at) => at % Math.ceil(members.length / 80) === 0) : members;
    this.bar(track, tree.starts[row], Math.max(...shown.map(tree.end), tree.end(members.at(-1))), "rule", "");
    for (const each of shown) this.bar(track, tree.starts[each], tree.end(each), barOf(tree.kind(each), tree.isError(each)), "");
    const time = members.reduce((sum, each) => sum + (tree.lengths[each] ?? 0), 0);
    this.stripe(element, sums.cost);
    const total = make("span", "num", span(time));
    total.title = `Sum of ${count(members.length)} spans; ${span(time / members.length)} each on average`;
    element.append(name, track, make("span", "num cost", sums.cost === null ? "" : money(sums.cost)), total);
    element.classList.add("is-fold");
    element.setAttribute("aria-expanded", "false");
  }

  nameCell(row, hasBelow, isOpen) {
    const cell = make("span", "fall-name");
    cell.style.paddingLeft = this.flat ? "4px" : `${4 + INDENT * Math.min(this.tree.depths[row], MAX_INDENT)}px`;
    const twist = make("span", "twist", hasBelow ? (isOpen ? "▾" : "▸") : "");
    twist.setAttribute("aria-hidden", "true");
    if (hasBelow) twist.dataset.twist = "";
    cell.append(twist);
    return cell;
  }

  runButton(row, text, title) {
    const button = make("span", "run", text);
    button.dataset.run = row;
    button.title = title;
    return button;
  }

  stripe(element, cost) {
    if (!cost || !this.dearest) return;
    const stripe = make("i", "stripe");
    stripe.style.opacity = String(0.15 + 0.85 * Math.sqrt(Math.min(1, cost / this.dearest)));
    element.append(stripe);
  }

  // Microseconds to percent of what the axis shows.
  place = (us) => {
    const [from, to] = this.window ?? [0, Math.max(1, this.tree.duration_us)];
    return ((us - from) / (to - from)) * 100;
  };

  bar(track, start, end, colour, more) {
    const left = Math.min(100, Math.max(0, this.place(start)));
    const right = Math.min(100, Math.max(0, this.place(end)));
    if (this.place(end) < 0 || this.place(start) > 100) return;
    const bar = make("i", `bar c-${colour} ${more}`);
    bar.style.left = `${left}%`;
    bar.style.width = `${right - left}%`;
    track.append(bar);
  }

  tick(track, at) {
    const left = this.place(at);
    if (left < 0 || left > 100) return;
    const tick = make("i", "tick");
    tick.style.left = `${left}%`;
    track.append(tick);
  }

  describe(row, sums) {
    const { tree } = this;
    const parts = [`${tree.kind(row)} ${tree.name(row)}`, `starts at ${span(tree.starts[row])}`, `takes ${span(tree.lengths[row])}`];
    if (tree.ttft[row] !== null) parts.push(`first token after ${span(tree.ttft[row])}`);
    if (sums && sums.calls) parts.push(`below: ${count(sums.tokensIn)} tokens in, ${count(sums.tokensOut)} out, ${money(sums.cost)}${sums.unpriced ? ` and ${sums.unpriced} calls without a price` : ""}`);
    else if (tree.tokens_in[row] !== null) parts.push(`${count(tree.tokens_in[row])} tokens in, ${count(tree.tokens_out[row])} out`);
    return parts.join("\n");
  }

  markChosen(element) {
    element.setAttribute("aria-selected", "true");
    element.setAttribute("aria-current", "true");
    this.view.setAttribute("aria-activedescendant", element.id);
  }

  select(row, { isFoldChosen = false, center = false } = {}) {
    this.selected = row;
    this.isFoldChosen = isFoldChosen;
    for (const element of this.pool.values()) {
      element.removeAttribute("aria-current");
      element.removeAttribute("aria-selected");
    }
    const place = isFoldChosen ? this.tree.entries.indexOf(fold(row)) : this.tree.placeOf(row);
    if (place < 0) return;
    this.scrollTo(place, center);
    this.draw();
    const element = this.pool.get(place);
    if (element) this.markChosen(element);
    this.drawMapWindow();
  }

  scrollTo(place, center) {
    const top = place * ROW;
    const { scrollTop, clientHeight } = this.view;
    if (center) this.view.scrollTop = Math.max(0, top - clientHeight / 3);
    else if (top < scrollTop + ROW) this.view.scrollTop = Math.max(0, top - ROW);
    else if (top + 2 * ROW > scrollTop + clientHeight) this.view.scrollTop = top + 2 * ROW - clientHeight;
  }

  clicked(event) {
    const element = event.target.closest("[data-place]");
    if (!element || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.view.focus({ preventScroll: true });
    const entry = this.tree.entries[Number(element.dataset.place)];
    if (event.target.closest("[data-twist], [data-run]") || isFold(entry)) this.onToggle(entry, event.target.closest("[data-run]") !== null);
    else this.onSelect(rowOf(entry));
  }

  drawAxis() {
    const [from, to] = this.window ?? [0, this.tree.duration_us];
    const isLong = span(to).length > 7 || this.axis.clientWidth < 240;
    const parts = isLong ? [0, 2, 4] : [0, 1, 2, 3, 4];
    this.axis.replaceChildren(...parts.map((part) => make("span", "", from === 0 && part === 0 ? "0" : span(from + ((to - from) * part) / 4))));
    this.axis.classList.toggle("is-zoomed", this.window !== null);
  }

  // The small picture: every shown row as a line, what failed as dots, and the part that is in view.
  drawMap() {
    const { map, tree } = this;
    const ratio = devicePixelRatio || 1;
    const width = map.clientWidth;
    const height = this.view.clientHeight;
    if (!width || !height) return;
    map.width = width * ratio;
    map.height = height * ratio;
    map.style.height = `${height}px`;
    const canvas = map.getContext("2d", { willReadFrequently: true });
    canvas.scale(ratio, ratio);
    const scale = Math.min(ROW, height / Math.max(1, tree.entries.length));
    const perLine = Math.max(1, Math.floor(1 / scale));
    const step = Math.max(1, Math.ceil(perLine / MAP_ROWS));
    const dots = width - 8;
    const total = Math.max(1, tree.duration_us);
    const thick = Math.max(1, Math.min(3, scale - 1));
    for (let place = 0; place < tree.entries.length; place += step) {
      const row = rowOf(tree.entries[place]);
      canvas.fillStyle = this.colours[barOf(tree.kind(row), false)];
      const left = (tree.starts[row] / total) * dots;
      canvas.fillRect(left, place * scale, Math.max(0.75, ((tree.end(row) - tree.starts[row]) / total) * dots), thick);
    }
    canvas.fillStyle = this.colours.red;
    let drawn = -9;
    for (let place = 0; place < tree.entries.length; place += 1) {
      const entry = tree.entries[place];
      const row = rowOf(entry);
      const isBad = isFold(entry) ? tree.sums(row, tree.runEnd(row)).errors > 0 : tree.isError(row);
      if (isBad && place * scale - drawn >= 2) {
        drawn = place * scale;
        canvas.fillRect(dots + 3, drawn - 0.5, 4, Math.max(2, thick));
      }
    }
    this.mapPicture = canvas.getImageData(0, 0, map.width, map.height);
    this.mapScale = scale;
    this.drawMapWindow();
  }

  drawMapWindow() {
    if (!this.mapPicture) return;
    const ratio = devicePixelRatio || 1;
    const canvas = this.map.getContext("2d");
    canvas.putImageData(this.mapPicture, 0, 0);
    const y = (this.view.scrollTop / ROW) * this.mapScale;
    if (this.view.scrollHeight <= this.view.clientHeight + 1) return;
    const height = Math.max(6, (this.view.clientHeight / ROW) * this.mapScale);
    canvas.strokeStyle = this.colours.accent;
    canvas.lineWidth = 1;
    canvas.strokeRect(0.5, Math.min(y, this.map.height / ratio - height) + 0.5, this.map.width / ratio - 1, height - 1);
  }

  scrub(event) {
    const at = (event.offsetY / this.mapScale) * ROW;
    this.view.scrollTop = at - this.view.clientHeight / 2;
  }
}

export const MARKS = [
  [FLAG.orphan, "orphan", "Its parent never arrived"],
  [FLAG.cycle, "cycle", "It and its parents name each other as parents; the chain was cut here"],
  [FLAG.early, "early", "It starts before its parent: two clocks disagree"],
  [FLAG.late, "late end", "It ends after its parent: it was not waited for, or two clocks disagree"],
];
