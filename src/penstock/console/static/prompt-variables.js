// The variables of a prompt as rows of a table. Two rows belong together: the fields, and what is wrong with them.

const TEXT = "text";

// What was typed for a value, as the variable's type wants it; throws for what is no JSON where JSON is wanted.
export function readTyped(text, type) {
  if (type === TEXT) return text;
  if (type === "boolean" && /^(yes|no)$/i.test(text.trim())) return /^yes$/i.test(text.trim());
  return JSON.parse(text);
}

export const writeTyped = (value) => (value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));

export class Variables {
  constructor(place, template, empty, changed) {
    Object.assign(this, { place, template, empty, changed });
    place.addEventListener("input", () => {
      this.showRequired();
      changed();
    });
    place.addEventListener("click", (event) => {
      const button = event.target.closest("[data-v-remove]");
      if (!button) return;
      const row = button.closest("tr");
      row.nextElementSibling.remove();
      row.remove();
      this.showEmpty();
      changed();
    });
  }

  get rows() {
    return [...this.place.querySelectorAll("tr:not(.variable-wrong)")];
  }

  add(name, variable, { focus = false } = {}) {
    this.place.append(this.template.content.cloneNode(true));
    const row = this.rows.at(-1);
    row.rest = variable; // what has no field here, such as max_chars, is kept
    const field = (key) => row.querySelector(`[data-v="${key}"]`);
    field("name").value = name;
    field("type").value = variable.type ?? TEXT;
    field("required").checked = variable.required ?? true;
    field("default").value = writeTyped(variable.default);
    field("choices").value = (variable.choices ?? []).map(writeTyped).join(" | ");
    field("description").value = variable.description ?? "";
    this.showRequired();
    this.showEmpty();
    if (focus) field("name").focus();
  }

  set(variables) {
    this.place.replaceChildren();
    for (const [name, variable] of Object.entries(variables)) this.add(name, variable);
    this.showEmpty();
  }

  showEmpty() {
    this.empty.hidden = this.rows.length > 0;
    this.place.closest(".scroll").hidden = this.rows.length === 0;
  }

  showRequired() {
    for (const row of this.rows) row.querySelector('[data-v="default"]').disabled = row.querySelector('[data-v="required"]').checked;
  }

  // What is declared, and what cannot be read of it.
  read() {
    const found = {};
    const problems = [];
    for (const row of this.rows) {
      const text = (key) => row.querySelector(`[data-v="${key}"]`).value.trim();
      const name = text("name");
      const type = text("type");
      const required = row.querySelector('[data-v="required"]').checked;
      if (!name) {
        problems.push({ key: name, text: "A variable needs a name." });
        continue;
      }
      if (name in found) problems.push({ key: name, text: `There are two variables ${name}.` });
      const variable = { ...row.rest, type, required, description: text("description"), choices: [] };
      delete variable.default;
      if (type === TEXT) delete variable.type; // what is usual is left out, so that the same prompt is the same version
      try {
        if (!required && text("default") !== "") variable.default = readTyped(text("default"), type);
        if (text("choices")) variable.choices = text("choices").split("|").map((each) => readTyped(each.trim(), type));
      } catch {
        problems.push({ key: name, text: `A value of ${name} is no ${type}; write it as JSON.` });
      }
      found[name] = variable;
    }
    return { variables: found, problems };
  }

  tell(problems) {
    for (const row of this.rows) {
      const name = row.querySelector('[data-v="name"]').value.trim();
      const own = problems.filter((each) => each.key === name);
      const place = row.nextElementSibling;
      place.hidden = !own.length;
      place.firstElementChild.textContent = own.map((each) => each.text).join(" ");
    }
  }
}
