// The playground side by side: the same values for up to four variants, which stream at once. The URL after # keeps everything.

import { csrfToken, describe } from "./play-stream.js";
import { Variant } from "./play-variant.js";
import { readTyped, writeTyped } from "./prompt-variables.js";

const root = document.querySelector("[data-compare]");
const find = (name) => root.querySelector(`[data-${name}]`);
const templates = { variant: document.querySelector("template[data-variant]"), block: document.querySelector("template[data-block]") };
const LETTERS = "ABCD";
const variants = [];
let texts = {}; // what is typed, by variable
let place = 0;
let messages = []; // that the case brings along
let isReady = false;

// -- the URL

function encode(state) {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function decode(text) {
  try {
    const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(raw, (char) => char.charCodeAt(0))));
  } catch {
    return null; // a link that was cut off: begin anew
  }
}

function remember() {
  if (!isReady) return;
  const state = { variants: variants.map((each) => each.state), texts, dataset: find("dataset")?.value ?? "", case: find("case-id")?.value ?? "" };
  history.replaceState(null, "", `${location.pathname}#${encode(state)}`);
}

// -- values

function declared() {
  const found = {};
  for (const variant of variants) for (const [name, variable] of Object.entries(variant.variables)) found[name] ??= variable;
  return found;
}

function fieldOf(name, variable) {
  const label = document.createElement("label");
  const hint = variable.required === false ? `${variable.type ?? "text"}${variable.default === undefined || variable.default === null ? ", may be left out" : `, else ${writeTyped(variable.default)}`}` : variable.type ?? "text";
  const words = Object.assign(document.createElement("span"), { className: "hint", title: variable.description || hint });
  words.append(Object.assign(document.createElement("b"), { textContent: name }), ` ${hint}`);
  label.append(words);
  let field;
  if (variable.choices?.length || variable.type === "boolean") {
    field = document.createElement("select");
    const choices = variable.choices?.length ? variable.choices.map(writeTyped) : ["true", "false"];
    for (const choice of variable.required === false ? ["", ...choices] : choices) field.append(new Option(choice || "–", choice));
  } else {
    field = document.createElement("textarea");
    field.rows = 2;
    if ((variable.type ?? "text") !== "text") Object.assign(field, { className: "mono", placeholder: "JSON", spellcheck: false });
  }
  field.dataset.value = name;
  label.append(field);
  return label;
}

function showValues() {
  const wanted = declared();
  const key = JSON.stringify(wanted);
  const area = find("values");
  if (area.dataset.key !== key) {
    area.dataset.key = key;
    area.replaceChildren(...Object.entries(wanted).map(([name, variable]) => fieldOf(name, variable)));
    if (!Object.keys(wanted).length) area.append(Object.assign(document.createElement("p"), { className: "faint", textContent: "No variant takes a variable. Write {{ name }} in a message to use one." }));
  }
  for (const field of area.querySelectorAll("[data-value]")) {
    const text = texts[field.dataset.value];
    if (text !== undefined && field.value !== text) field.value = text;
    else if (text === undefined && field.tagName === "SELECT" && field.value) texts[field.dataset.value] = field.value;
  }
}

// The values as their types want them; says which one cannot be read.
function readValues() {
  const found = {};
  for (const [name, variable] of Object.entries(declared())) {
    const text = texts[name];
    if (text === undefined || (text === "" && (variable.required === false || (variable.type ?? "text") !== "text"))) continue;
    try {
      found[name] = readTyped(text, variable.type ?? "text");
    } catch {
      throw new Error(`${name} must be a ${variable.type}; write it as JSON.`);
    }
  }
  return found;
}

async function showCase(query) {
  const dataset = find("dataset").value;
  const wrong = find("case-wrong");
  wrong.textContent = "";
  find("case").hidden = !dataset;
  messages = [];
  if (!dataset) {
    find("expected").hidden = true;
    remember();
    return;
  }
  const reply = await fetch(`/playground/case?${new URLSearchParams({ dataset, ...query })}`).catch(() => null);
  const found = (await reply?.json().catch(() => null)) ?? {};
  if (!reply?.ok) {
    wrong.textContent = describe(found.error ?? {});
    return;
  }
  place = found.place;
  messages = found.messages;
  find("case-id").value = found.id;
  find("place").textContent = `${found.place + 1} of ${found.n_rows.toLocaleString("en-US")}`;
  root.querySelector('[data-step="-1"]').disabled = found.place === 0;
  root.querySelector('[data-step="1"]').disabled = found.place + 1 >= found.n_rows;
  for (const [name, value] of Object.entries(found.inputs)) texts[name] = writeTyped(value);
  const lacking = Object.entries(declared()).filter(([name, variable]) => variable.required !== false && !(name in found.inputs)).map(([name]) => name);
  if (lacking.length) wrong.textContent = `This case has ${Object.keys(found.inputs).join(", ") || "no values"}, and no ${lacking.join(", ")}: what is typed there stays.`;
  const expected = found.expected === null || found.expected === undefined ? "" : writeTyped(found.expected);
  find("expected").hidden = !expected;
  find("expected").textContent = `Expected: ${expected}`;
  showValues();
  remember();
}

// -- variants

function letter() {
  variants.forEach((each, number) => (each.find("letter").textContent = LETTERS[number]));
  find("variants").dataset.count = variants.length;
  find("add").disabled = variants.length >= Number(root.dataset.max);
  for (const each of variants) each.find("take-away").hidden = variants.length === 1;
}

async function add(state) {
  const variant = new Variant(templates, () => {
    showValues();
    remember();
  });
  variants.push(variant);
  find("variants").append(variant.element);
  variant.find("take-away").addEventListener("click", () => {
    variant.stop();
    variants.splice(variants.indexOf(variant), 1);
    variant.element.remove();
    letter();
    showValues();
    remember();
  });
  variant.find("run-one").addEventListener("click", () => run([variant]));
  letter();
  await variant.restore(state);
  return variant;
}

async function run(chosen) {
  let values;
  find("case-wrong").textContent = "";
  try {
    values = readValues();
  } catch (error) {
    find("case-wrong").textContent = error.message;
    return;
  }
  find("stop").hidden = false;
  await Promise.all(chosen.map((each) => each.run(values, messages)));
  find("stop").hidden = variants.every((each) => each.running === null);
}

// -- evaluations

async function evaluate(event) {
  event.preventDefault();
  const said = root.querySelector("[data-evaluate-said]");
  const form = event.target;
  const unsaved = variants.flatMap((each, number) => (each.isSaved ? [] : [LETTERS[number]]));
  if (unsaved.length) {
    said.textContent = `${unsaved.join(", ")} ${unsaved.length === 1 ? "is" : "are"} not a saved version. Save first: an evaluation names what it ran.`;
    return;
  }
  said.textContent = "Starting …";
  const body = {
    dataset: form.elements.dataset.value,
    limit: Number(form.elements.limit.value) || 0,
    scorer: form.elements.scorer.value,
    variants: variants.map((each) => ({ prompt: each.base, parameters: each.parameters, ...(each.model ? { model: each.model } : {}) })),
  };
  const reply = await fetch("/playground/evaluate", {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrfToken() },
    body: JSON.stringify(body),
  }).catch(() => null);
  const told = (await reply?.json().catch(() => null)) ?? {};
  if (!reply?.ok) {
    said.textContent = describe(told.error ?? {});
    return;
  }
  said.textContent = `${told.evaluations.length === 1 ? "An evaluation is" : `${told.evaluations.length} evaluations are`} under way: `;
  for (const [href, text] of told.links) said.append(Object.assign(document.createElement("a"), { href, textContent: text }), " ");
}

async function begin() {
  const kept = location.hash.length > 1 ? decode(location.hash.slice(1)) : null;
  const named = JSON.parse(root.dataset.start);
  let first = named.map((base) => ({ base }));
  if (new URLSearchParams(location.search).get("draft")) {
    const draft = JSON.parse(sessionStorage.getItem("penstock-variant") ?? "null");
    if (draft) first = [...(draft.base ? [{ base: draft.base }] : []), draft];
  }
  if (kept) {
    texts = kept.texts ?? {};
    first = kept.variants ?? [];
  }
  if (!first.length) first = [{}, {}];
  for (const state of first.slice(0, Number(root.dataset.max))) await add(state);
  if (kept?.dataset && find("dataset")) {
    find("dataset").value = kept.dataset;
    await showCase(kept.case ? { case: kept.case } : {});
  }
  isReady = true;
  showValues();
  root.dataset.ready = "";
}

if (root) {
  find("values").addEventListener("input", (event) => {
    texts[event.target.dataset.value] = event.target.value;
    remember();
  });
  find("dataset")?.addEventListener("change", () => showCase({ place: 0 }));
  find("case-id")?.addEventListener("change", () => showCase({ case: find("case-id").value.trim() }));
  for (const button of root.querySelectorAll("[data-step]")) button.addEventListener("click", () => showCase({ place: place + Number(button.dataset.step) }));
  find("add").addEventListener("click", async () => {
    const last = variants.at(-1);
    const made = await add(last.state);
    made.find("source").focus();
    remember();
  });
  find("run").addEventListener("click", () => run(variants));
  find("stop").addEventListener("click", () => variants.forEach((each) => each.stop()));
  root.querySelector("form[data-evaluate]")?.addEventListener("submit", evaluate);
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      run(variants);
    }
  });
  begin();
}
