// The messages of a prompt as blocks that can be written, added, moved and taken away. Texts are set as texts, never as HTML.

export class Blocks {
  constructor(place, template, changed) {
    this.place = place;
    this.template = template;
    this.changed = changed;
    place.addEventListener("input", (event) => {
      if (event.target.matches("[data-text]")) fit(event.target);
      if (event.target.matches("[data-role]")) showRole(event.target.closest("[data-message]"));
      changed();
    });
    place.addEventListener("click", (event) => this.act(event));
    place.addEventListener("keydown", (event) => {
      if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
      const block = event.target.closest("[data-message]");
      if (!block) return;
      event.preventDefault();
      this.move(block, event.key === "ArrowUp" ? -1 : 1, event.target);
    });
  }

  get all() {
    return [...this.place.querySelectorAll("[data-message]")];
  }

  add(message, { focus = false } = {}) {
    const block = this.template.content.firstElementChild.cloneNode(true);
    const isParts = Array.isArray(message.content);
    block.querySelector("[data-role]").value = message.role;
    if (message.role === "slot") block.querySelector("[data-slot]").value = message.content || "history";
    const text = block.querySelector("[data-text]");
    if (isParts) {
      block.dataset.parts = "";
      text.classList.add("mono");
    }
    text.value = message.role === "slot" ? "" : isParts ? JSON.stringify(message.content, null, 2) : message.content ?? "";
    this.place.append(block);
    showRole(block);
    fit(text);
    if (focus) (message.role === "slot" ? block.querySelector("[data-slot]") : text).focus();
    return block;
  }

  set(messages) {
    this.place.replaceChildren();
    for (const message of messages) this.add(message);
  }

  // What is written; throws where a message that has parts is no JSON.
  read() {
    return this.all.map((block, number) => {
      const role = block.querySelector("[data-role]").value;
      if (role === "slot") return { role, content: block.querySelector("[data-slot]").value };
      const text = block.querySelector("[data-text]").value;
      if (!("parts" in block.dataset)) return { role, content: text };
      try {
        return { role, content: JSON.parse(text) };
      } catch (error) {
        throw Object.assign(new Error(`No JSON: ${error.message}`), { message_number: number });
      }
    });
  }

  tell(problems) {
    this.all.forEach((block, number) => {
      const own = problems.filter((each) => each.place === "message" && Number(each.key) === number);
      const place = block.querySelector("[data-problem]");
      place.hidden = !own.length;
      place.textContent = own.map((each) => each.text).join("\n");
      block.classList.toggle("is-wrong", own.length > 0);
    });
  }

  move(block, step, focused) {
    const other = step < 0 ? block.previousElementSibling : block.nextElementSibling;
    if (!other) return;
    if (step < 0) other.before(block);
    else other.after(block);
    focused?.focus();
    this.changed();
  }

  act(event) {
    const block = event.target.closest("[data-message]");
    const button = event.target.closest("button");
    if (!block || !button) return;
    if ("up" in button.dataset) this.move(block, -1, button);
    else if ("down" in button.dataset) this.move(block, 1, button);
    else if ("remove" in button.dataset) {
      const next = block.nextElementSibling ?? block.previousElementSibling;
      block.remove();
      next?.querySelector("select, textarea")?.focus();
      this.changed();
    }
  }
}

function showRole(block) {
  const role = block.querySelector("[data-role]").value;
  const isSlot = role === "slot";
  block.querySelector("[data-slot-label]").hidden = !isSlot;
  block.querySelector("[data-text]").hidden = isSlot;
  block.dataset.role = role;
}

export function fit(text) {
  if (text.hidden) return;
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, 560)}px`;
}
