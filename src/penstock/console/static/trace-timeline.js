// The timeline: every span as a bar in lanes below its parent, as wide as it took. Wheel with Ctrl zooms, dragging moves.

import { FLAG } from "./trace-tree.js";
import { BARS, barOf, colours, contrast, make, span } from "./trace-words.js";

const LANE = 20;
const MAX_LANES = 400;
const PAD = 4;

export class Timeline {
  constructor(root, { onSelect, onZoom }) {
    this.view = root.querySelector("[data-timeline]");
    this.onSelect = onSelect;
    this.onZoom = onZoom;
    this.window = null;
    this.selected = -1;
    this.canvas = make("canvas", "lanes");
    this.canvas.setAttribute("role", "img");
    this.sheet = make("div", "lanes-sheet");
    this.tip = make("p", "lanes-tip");
    this.tip.hidden = true;
    this.view.replaceChildren(this.canvas, this.sheet, this.tip);
    this.view.addEventListener("scroll", () => this.drawSoon(), { passive: true });
    new ResizeObserver(() => this.drawSoon()).observe(this.view);
    this.view.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.view.addEventListener("pointerdown", (event) => this.grab(event));
    this.view.addEventListener("pointermove", (event) => this.move(event));
    this.view.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.view.addEventListener("click", (event) => this.click(event));
    this.view.addEventListener("dblclick", (event) => this.zoomTo(this.rowAt(event)));
    new MutationObserver(() => this.recolour()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
  }

  recolour() {
    this.colours = colours(BARS);
    this.drawSoon();
  }

  show(tree) {
    this.tree = tree;
    this.colours ??= colours(BARS);
    this.pack();
    this.canvas.setAttribute("aria-label", `Timeline of ${tree.size} spans in ${this.lanes.length} lanes; the keys of the tree work here too`);
    const height = Math.max(1, this.lanes.length * LANE + 2 * PAD - 1);
    this.sheet.style.height = `${height}px`;
    this.view.style.maxHeight = `${Math.max(96, height + 1)}px`; // few lanes leave no empty field above the legend
    this.drawSoon();
  }

  // Each row goes into the first lane below its parent that is free when it starts.
  pack() {
    const { tree } = this;
    const busy = [];
    this.laneOf = new Int32Array(tree.size);
    this.lanes = [];
    for (let row = 0; row < tree.size; row += 1) {
      let lane = tree.parents[row] < 0 ? 0 : this.laneOf[tree.parents[row]] + 1;
      while (lane < MAX_LANES - 1 && busy[lane] > tree.starts[row]) lane += 1;
      lane = Math.min(lane, MAX_LANES - 1);
      busy[lane] = Math.max(busy[lane] ?? -1, tree.end(row));
      this.laneOf[row] = lane;
      (this.lanes[lane] ??= []).push(row);
    }
    for (let lane = 0; lane < this.lanes.length; lane += 1) (this.lanes[lane] ??= []).sort((one, other) => tree.starts[one] - tree.starts[other]);
  }

  drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  get reach() {
    return this.window ?? [0, Math.max(1, this.tree.duration_us)];
  }

  draw() {
    const { tree, canvas } = this;
    const width = this.view.clientWidth;
    const height = this.view.clientHeight;
    if (!tree || !this.lanes || !width || !height) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const { fontSize, fontFamily } = getComputedStyle(this.view);
    pen.font = `${fontSize} ${fontFamily}`;
    pen.textBaseline = "middle";
    const [from, to] = this.reach;
    const scale = width / (to - from);
    const top = this.view.scrollTop;
    const first = Math.max(0, Math.floor((top - PAD) / LANE));
    const last = Math.min(this.lanes.length, Math.ceil((top + height) / LANE));
    for (let lane = first; lane < last; lane += 1) this.drawLane(pen, lane, lane * LANE + PAD - top, from, to, scale);
    if (this.selected >= 0) this.outline(pen, this.selected, from, scale, top);
  }

  drawLane(pen, lane, y, from, to, scale) {
    const { tree } = this;
    let drawn = -1;
    for (const row of this.lanes[lane]) {
      const start = tree.starts[row];
      if (start > to) break;
      const end = tree.end(row);
      if (end < from) continue;
      const left = Math.max(0, (start - from) * scale);
      const right = (Math.min(end, to) - from) * scale;
      if (right < drawn + 0.4 && !tree.isError(row)) continue; // nobody would see it
      const width = Math.max(1, right - left - 0.5);
      const isPale = (tree.matches && !tree.matches[row]) || (tree.onlyCritical && !tree.has(row, FLAG.critical));
      pen.globalAlpha = isPale ? 0.25 : 1;
      pen.fillStyle = this.colours[barOf(tree.kind(row), tree.isError(row))];
      pen.fillRect(left, y, width, LANE - 3);
      if (tree.ttft[row] !== null && width > 8) {
        pen.fillStyle = this.colours.ink;
        pen.fillRect((start + tree.ttft[row] - from) * scale, y, 1.5, LANE - 3);
      }
      if (width > 36) this.label(pen, row, left, y, width, isPale);
      drawn = Math.max(drawn, left + width);
    }
    pen.globalAlpha = 1;
  }

  label(pen, row, left, y, width, isPale) {
    const { ground, ink } = this.colours;
    const bar = this.colours[barOf(this.tree.kind(row), this.tree.isError(row))];
    pen.save();
    pen.beginPath();
    pen.rect(left, y, width - 3, LANE - 3);
    pen.clip();
    pen.globalAlpha = isPale ? 0.4 : 1;
    pen.fillStyle = !isPale && contrast(bar, ground) > contrast(bar, ink) ? ground : ink;
    pen.fillText(this.tree.name(row), left + 5, y + (LANE - 3) / 2 + 0.5);
    pen.restore();
  }

  outline(pen, row, from, scale, top) {
    const left = (this.tree.starts[row] - from) * scale;
    const width = Math.max(3, (this.tree.end(row) - this.tree.starts[row]) * scale);
    pen.strokeStyle = this.colours.accent;
    pen.lineWidth = 2;
    pen.strokeRect(left, this.laneOf[row] * LANE + PAD - top - 1, width, LANE - 1);
  }

  select(row) {
    this.selected = row;
    if (row < 0 || !this.tree) return;
    const y = (this.laneOf?.[row] ?? 0) * LANE;
    if (y < this.view.scrollTop || y + 2 * LANE > this.view.scrollTop + this.view.clientHeight) this.view.scrollTop = y - this.view.clientHeight / 3;
    const [from, to] = this.reach;
    if (this.window && (this.tree.end(row) < from || this.tree.starts[row] > to)) {
      const middle = this.tree.starts[row];
      this.setWindow([middle - (to - from) / 2, middle + (to - from) / 2]);
    }
    this.drawSoon();
  }

  rowAt(event) {
    const box = this.view.getBoundingClientRect();
    const lane = Math.floor((event.clientY - box.top + this.view.scrollTop - PAD) / LANE);
    const [from, to] = this.reach;
    const at = from + ((event.clientX - box.left) / this.view.clientWidth) * (to - from);
    const reach = ((to - from) / this.view.clientWidth) * 2;
    let best = -1;
    for (const row of this.lanes?.[lane] ?? []) {
      if (this.tree.starts[row] > at + reach) break;
      if (this.tree.end(row) >= at - reach) best = row;
    }
    return best;
  }

  click(event) {
    if (this.dragged) return;
    const row = this.rowAt(event);
    if (row >= 0) this.onSelect(row);
  }

  move(event) {
    if (this.held && event.buttons) {
      const [from, to] = this.held.window;
      const moved = ((this.held.x - event.clientX) / this.view.clientWidth) * (to - from);
      this.dragged ||= Math.abs(this.held.x - event.clientX) > 4;
      if (this.window && this.dragged) this.setWindow([from + moved, to + moved]);
      return;
    }
    const row = this.rowAt(event);
    this.tip.hidden = row < 0;
    if (row < 0) return;
    const box = this.view.getBoundingClientRect();
    this.tip.textContent = `${this.tree.kind(row)} ${this.tree.name(row)} · ${span(this.tree.lengths[row])} · at ${span(this.tree.starts[row])}`;
    this.tip.style.transform = `translate(${Math.min(event.clientX - box.left + 12, Math.max(0, box.width - 280))}px, ${event.clientY - box.top + this.view.scrollTop + 16}px)`;
  }

  grab(event) {
    this.dragged = false;
    this.held = { x: event.clientX, window: this.reach };
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) return;
    event.preventDefault();
    const box = this.view.getBoundingClientRect();
    this.zoom(event.deltaY < 0 ? 0.7 : 1 / 0.7, (event.clientX - box.left) / box.width);
  }

  zoom(factor, at = 0.5) {
    const [from, to] = this.reach;
    const length = Math.max(10, (to - from) * factor);
    const middle = from + (to - from) * at;
    if (length >= this.tree.duration_us) this.setWindow(null);
    else this.setWindow([middle - length * at, middle + length * (1 - at)]);
  }

  zoomTo(row) {
    if (row < 0) return;
    const pad = Math.max(5, (this.tree.end(row) - this.tree.starts[row]) * 0.05);
    this.setWindow([this.tree.starts[row] - pad, this.tree.end(row) + pad]);
  }

  setWindow(reach) {
    if (reach) {
      const length = reach[1] - reach[0];
      const from = Math.max(0, Math.min(reach[0], this.tree.duration_us - length));
      reach = [from, from + length];
    }
    this.window = reach;
    this.onZoom(reach);
    this.drawSoon();
  }
}
