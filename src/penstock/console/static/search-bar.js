// The search bar: what can follow is offered while one types, what cannot be read is told with its place, and what was
// searched before comes back. Without this script it is a plain field of a form.

const HISTORY_KEY = "penstock-searches";
const MAX_HISTORY = 30;
const MAX_SHOWN = 12;
const ASK_AFTER_MS = 90;
const CHECK_AFTER_MS = 500;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

function readHistory(subject) {
  try {
    return JSON.parse(localStorage.getItem(`${HISTORY_KEY}-${subject}`)) ?? [];
  } catch {
    return [];
  }
}

function keep(subject, text) {
  if (!text) return;
  const kept = [text, ...readHistory(subject).filter((each) => each !== text)].slice(0, MAX_HISTORY);
  try {
    localStorage.setItem(`${HISTORY_KEY}-${subject}`, JSON.stringify(kept));
  } catch {
    // a full or forbidden storage costs the history, nothing else
  }
}

class SearchBar {
  constructor(input) {
    this.input = input;
    this.form = input.form;
    this.list = this.form.querySelector("[role=listbox]");
    this.problem = this.form.parentElement.querySelector("[data-search-problem]");
    this.subject = input.dataset.subject;
    this.options = [];
    this.picked = -1;
    this.turn = 0;
    if (!input.hasAttribute("aria-invalid")) keep(this.subject, input.value.trim());
    this.listen();
  }

  listen() {
    const { input } = this;
    input.setAttribute("role", "combobox");
    input.addEventListener("input", () => {
      this.later("asking", ASK_AFTER_MS, () => this.ask());
      this.later("checking", CHECK_AFTER_MS, () => this.check());
    });
    input.addEventListener("focus", () => {
      if (!input.value) this.offerHistory();
    });
    input.addEventListener("click", () => {
      if (this.list.hidden) this.later("asking", ASK_AFTER_MS, () => (input.value ? this.ask() : this.offerHistory()));
    });
    input.addEventListener("keydown", (event) => this.onKey(event));
    input.addEventListener("blur", () => this.hide());
    this.list.addEventListener("mousedown", (event) => {
      const item = event.target.closest("[role=option]");
      event.preventDefault(); // the field keeps the focus
      if (item) this.take(Number(item.dataset.at));
    });
    this.form.addEventListener("submit", () => keep(this.subject, input.value.trim()));
  }

  later(name, ms, act) {
    clearTimeout(this[name]);
    this[name] = setTimeout(act, ms);
  }

  onKey(event) {
    const isOpen = !this.list.hidden;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) {
      if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        this.ask();
      }
      return;
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (isOpen) this.pick(this.picked + (event.key === "ArrowDown" ? 1 : -1));
      else if (this.input.value) this.ask();
      else this.offerHistory();
    } else if (event.key === "Enter") {
      if (isOpen && this.picked >= 0) {
        event.preventDefault();
        this.take(this.picked);
      } else this.hide();
    } else if (event.key === "Tab" && isOpen && !event.shiftKey && this.picked >= 0) {
      event.preventDefault(); // with nothing picked it leads on, as everywhere
      this.take(this.picked);
    } else if (event.key === "Escape" && isOpen) {
      event.preventDefault();
      event.stopPropagation();
      this.hide();
    }
  }

  async ask() {
    const turn = ++this.turn;
    const { input } = this;
    if (document.activeElement !== input) return;
    const query = new URLSearchParams({ text: input.value, cursor: input.selectionStart ?? input.value.length, subject: this.subject });
    try {
      const reply = await fetch(`/api/v1/search/complete?${query}`);
      if (!reply.ok || turn !== this.turn) return;
      const told = await reply.json();
      this.offer((told.completions ?? told).slice(0, MAX_SHOWN));
    } catch {
      // the control process may be restarting; typing goes on without offers
    }
  }

  async check() {
    const text = this.input.value;
    if (!text.trim()) return this.tell(null);
    try {
      const reply = await fetch(`/traces/check?${new URLSearchParams({ q: text, subject: this.subject })}`);
      if (!reply.ok || text !== this.input.value) return;
      const { problem } = await reply.json();
      // What is still being completed is not wrong yet; the list would lie over the words anyway.
      this.isHeldBack = problem !== null && !this.list.hidden;
      this.tell(this.isHeldBack ? null : problem);
    } catch {
      // as above
    }
  }

  tell(problem) {
    this.problem.hidden = !problem;
    this.problem.replaceChildren();
    if (!problem) {
      this.input.removeAttribute("aria-invalid");
      return;
    }
    const text = make("p", "problem soft", problem.message);
    if (problem.fault) {
      const code = make("code", "faulty");
      code.append(problem.before, make("mark", "", problem.fault), problem.after);
      text.append(code);
    }
    if (problem.hint) text.append(make("span", "faint", problem.hint));
    this.problem.append(text);
    this.input.setAttribute("aria-invalid", "true");
    this.input.setAttribute("aria-describedby", this.problem.id);
  }

  offerHistory() {
    const past = readHistory(this.subject).slice(0, MAX_SHOWN);
    this.offer(past.map((text) => ({ text, kind: "before", detail: "", start: 0, end: this.input.value.length })));
  }

  offer(options) {
    this.options = options;
    this.picked = -1;
    this.list.replaceChildren(
      ...options.map((option, at) => {
        const item = make("li", "");
        item.id = `search-option-${at}`;
        item.setAttribute("role", "option");
        item.setAttribute("aria-selected", "false");
        item.dataset.at = at;
        item.append(make("span", "mono", option.text), make("span", "faint", option.detail || (option.kind === "before" ? "searched before" : "")));
        return item;
      }),
    );
    this.list.hidden = !options.length;
    this.input.setAttribute("aria-expanded", String(options.length > 0));
    this.input.removeAttribute("aria-activedescendant");
  }

  hide() {
    this.turn += 1;
    clearTimeout(this.asking);
    this.offer([]);
    if (this.isHeldBack) this.later("checking", CHECK_AFTER_MS, () => this.check());
  }

  pick(at) {
    const count = this.options.length;
    this.picked = at < -1 ? count - 1 : at >= count ? -1 : at;
    for (const [index, item] of [...this.list.children].entries()) {
      item.setAttribute("aria-selected", String(index === this.picked));
      if (index === this.picked) item.scrollIntoView({ block: "nearest" });
    }
    if (this.picked < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `search-option-${this.picked}`);
  }

  take(at) {
    const option = this.options[at];
    if (!option) return;
    const { input } = this;
    const isOpenEnded = /[:(.<>=~]$/.test(option.text);
    const text = option.text + (isOpenEnded || option.kind === "before" || option.kind === "sign" ? "" : " ");
    const rest = input.value.slice(option.end);
    input.value = input.value.slice(0, option.start) + text + (text.endsWith(" ") ? rest.trimStart() : rest);
    const place = option.start + text.length;
    input.setSelectionRange(place, place);
    this.hide();
    if (option.kind === "before") this.form.requestSubmit();
    else {
      this.later("asking", 0, () => this.ask());
      this.later("checking", CHECK_AFTER_MS, () => this.check());
    }
  }
}

for (const input of document.querySelectorAll("[data-search-bar]")) new SearchBar(input);
