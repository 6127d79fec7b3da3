// Charts that answer the pointer: values under it, a click leads to the traces behind a slice, a drag narrows the
// window. The same with the keyboard: arrows, Enter, and Shift with arrows to choose a window. Shapes come from the
// server; every text is set as text.

const SVG_WIDTH = 100;
const MIN_DRAG_PX = 6;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

function addWindow(href, since, until) {
  const url = new URL(href, location.origin);
  url.searchParams.delete("range");
  url.searchParams.delete("cursor");
  url.searchParams.set("since_ns", since);
  url.searchParams.set("until_ns", until);
  return url.pathname + url.search;
}

class Plot {
  constructor(figure) {
    this.zoomHref = figure.dataset.zoom;
    const { slices, lines } = JSON.parse(figure.dataset.plot);
    this.slices = slices;
    this.lines = lines;
    this.box = figure.querySelector(".plot-box");
    this.field = figure.querySelector(".plot-field");
    this.hair = figure.querySelector("[data-hair]");
    this.drag = figure.querySelector("[data-drag]");
    this.tip = figure.querySelector("[data-tip]");
    this.at = null;
    this.anchor = null;
    this.isDragging = false;
    this.listen();
  }

  listen() {
    this.field.addEventListener("pointermove", (event) => this.onMove(event));
    this.field.addEventListener("pointerleave", () => {
      if (!this.isDragging) this.clear();
    });
    this.field.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.isDragging = true;
      this.startX = event.clientX;
      this.anchor = this.indexAt(event.clientX);
      this.field.setPointerCapture(event.pointerId);
    });
    this.field.addEventListener("pointerup", (event) => this.onUp(event));
    this.field.addEventListener("pointercancel", () => this.clear());
    this.box.addEventListener("keydown", (event) => this.onKey(event));
    this.box.addEventListener("blur", () => this.clear());
  }

  indexAt(clientX) {
    const place = this.field.getBoundingClientRect();
    const share = (clientX - place.left) / place.width;
    return Math.min(Math.max(Math.floor(share * this.slices.length), 0), this.slices.length - 1);
  }

  onMove(event) {
    this.show(this.indexAt(event.clientX));
    if (this.isDragging && Math.abs(event.clientX - this.startX) >= MIN_DRAG_PX) this.mark(this.anchor, this.at);
  }

  onUp(event) {
    if (!this.isDragging) return;
    const isRange = Math.abs(event.clientX - this.startX) >= MIN_DRAG_PX;
    const [from, to] = [this.anchor, this.indexAt(event.clientX)];
    this.isDragging = false;
    this.anchor = null;
    if (isRange) this.zoom(from, to);
    else this.open(to, event);
  }

  onKey(event) {
    const last = this.slices.length - 1;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      const before = this.at ?? (step > 0 ? -1 : last + 1);
      const next = Math.min(Math.max(before + step, 0), last);
      if (event.shiftKey) this.anchor ??= Math.min(Math.max(before, 0), last);
      else this.anchor = null;
      this.show(next);
      if (this.anchor === null) this.mark(null);
      else this.mark(this.anchor, next);
    } else if (event.key === "Home") this.show(0);
    else if (event.key === "End") this.show(last);
    else if (event.key === "Enter" && this.at !== null) {
      if (this.anchor === null) this.open(this.at, event);
      else this.zoom(this.anchor, this.at);
    } else if (event.key === "Escape" && this.at !== null) this.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  show(index) {
    const x = (SVG_WIDTH * (index + 0.5)) / this.slices.length;
    this.hair.setAttribute("x1", x);
    this.hair.setAttribute("x2", x);
    this.hair.setAttribute("visibility", "visible");
    if (index === this.at && !this.tip.hidden) return;
    this.at = index;
    this.tip.replaceChildren(make("p", "tip-head", this.slices[index].name));
    const shown = this.lines.filter((line) => line.values[index] !== null);
    if (this.lines.length > 1) shown.sort((one, other) => other.values[index] - one.values[index]);
    for (const line of shown) {
      const row = make("p", "tip-row");
      if (this.lines.length > 1) row.append(make("i", `swatch tone-${line.tone}`), make("span", "tip-name", line.name));
      row.append(make("b", "num", line.words[index]));
      this.tip.append(row);
    }
    if (!shown.length) this.tip.append(make("p", "faint", "no value"));
    this.tip.hidden = false;
    this.place(x);
  }

  place(x) {
    const width = this.field.clientWidth;
    const left = (x / SVG_WIDTH) * width;
    const isRight = left > width / 2;
    this.tip.style.left = isRight ? "auto" : `${left + 10}px`;
    this.tip.style.right = isRight ? `${width - left + 10}px` : "auto";
  }

  mark(from, to) {
    if (from === null) {
      this.drag.setAttribute("width", 0);
      return;
    }
    const step = SVG_WIDTH / this.slices.length;
    const [first, last] = [Math.min(from, to), Math.max(from, to)];
    this.drag.setAttribute("x", first * step);
    this.drag.setAttribute("width", (last - first + 1) * step);
  }

  clear() {
    this.isDragging = false;
    this.anchor = null;
    this.at = null;
    this.tip.hidden = true;
    this.mark(null);
    this.hair.setAttribute("visibility", "hidden");
  }

  zoom(from, to) {
    const [first, last] = [Math.min(from, to), Math.max(from, to)];
    if (this.zoomHref) location.assign(addWindow(this.zoomHref, this.slices[first].since, this.slices[last].until));
  }

  // Leads to what is behind the line that is nearest to the pointer; from the keyboard behind the highest.
  open(index, event) {
    const candidates = this.lines.filter((line) => line.href && line.values[index] !== null);
    let line = candidates[0];
    const top = Math.max(...this.lines.flatMap((each) => each.values.filter((value) => value !== null)), 0);
    if (candidates.length > 1 && event.clientY && top > 0) {
      const place = this.field.getBoundingClientRect();
      const wanted = top * (1 - (event.clientY - place.top) / place.height);
      const distance = (each) => Math.abs(each.values[index] - wanted);
      line = candidates.reduce((best, each) => (distance(each) < distance(best) ? each : best));
    } else if (candidates.length > 1) {
      line = candidates.reduce((best, each) => (each.values[index] > best.values[index] ? each : best));
    }
    if (!line) return;
    const href = addWindow(line.href, this.slices[index].since, this.slices[index].until);
    if (event.ctrlKey || event.metaKey) window.open(href, "_blank", "noopener");
    else location.assign(href);
  }
}

export function attachPlots(root) {
  for (const figure of root.querySelectorAll("[data-plot]:not([data-attached])")) {
    figure.dataset.attached = "";
    new Plot(figure);
  }
}

attachPlots(document);
