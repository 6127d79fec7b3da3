// The messages view: pages of model calls as the server draws them, fetched as they are scrolled to.

import { make } from "./trace-words.js";

export class Messages {
  constructor(place, base, { onSelect }) {
    this.place = place;
    this.base = base;
    this.selected = null;
    this.isOpen = false;
    this.place.addEventListener("click", (event) => {
      const more = event.target.closest("[data-more]");
      if (more) {
        event.preventDefault();
        this.more(more);
        return;
      }
      const call = event.target.closest("[data-call]");
      if (call && !event.target.closest("a, button, summary, pre") && !String(getSelection())) onSelect(call.dataset.call);
    });
    this.watcher = new IntersectionObserver((seen) => {
      for (const each of seen) if (each.isIntersecting && each.target.dataset.more === "after") this.more(each.target);
    });
  }

  async fetch(query) {
    const reply = await fetch(`${this.base}/messages?${query}`, { headers: { accept: "text/html" } });
    if (!reply.ok) throw new Error(`The messages could not be read (${reply.status}).`);
    return reply.text();
  }

  async open(id) {
    this.selected = id;
    if (!this.isOpen) {
      this.isOpen = true;
      await this.load(id);
    }
    this.mark(true);
  }

  async load(id) {
    this.place.replaceChildren(make("p", "faint", "Reading the messages …"));
    try {
      this.place.innerHTML = await this.fetch(id ? `span=${id}` : "");
      this.watch();
    } catch (error) {
      this.isOpen = false;
      this.place.replaceChildren(make("p", "problem", error.message));
    }
  }

  watch() {
    for (const each of this.place.querySelectorAll("[data-more]")) this.watcher.observe(each);
  }

  async more(link) {
    if (link.dataset.asked) return;
    link.dataset.asked = "yes";
    this.watcher.unobserve(link);
    const before = link.dataset.more === "before";
    try {
      const holder = make("div");
      holder.innerHTML = await this.fetch(`page=${link.dataset.page}`);
      holder.querySelector(`[data-more="${before ? "after" : "before"}"]`)?.remove();
      const height = this.place.scrollHeight;
      link.replaceWith(...holder.childNodes);
      if (before) this.place.scrollTop += this.place.scrollHeight - height;
      this.watch();
      this.mark(false);
    } catch (error) {
      delete link.dataset.asked;
      link.textContent = `${error.message} Try again`;
    }
  }

  select(id, isShown) {
    this.selected = id;
    if (this.isOpen) this.mark(isShown);
  }

  mark(isShown) {
    for (const each of this.place.querySelectorAll("[data-call][aria-current]")) each.removeAttribute("aria-current");
    const found = this.place.querySelector(`[data-call="${this.selected}"]`);
    found?.setAttribute("aria-current", "true");
    if (isShown) found?.scrollIntoView({ block: "nearest" });
  }
}
