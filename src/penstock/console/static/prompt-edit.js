// The editor of a prompt: what is written is checked as it is written, shown as a difference, and saved as a new version.

import { Blocks } from "./prompt-blocks.js";
import { Variables } from "./prompt-variables.js";

const form = document.querySelector("[data-editor]");
const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
const DRAFT = "penstock-prompt-draft"; // what the playground hands over, and takes
const FEW_INPUT = "{{ input }}";
const FEW_OUTPUT = "{{ output }}";
const COT = { instruction: "Think step by step, then write the answer after a line that says `Answer:`.", answer_marker: "Answer:", strip: true };
const JSON_FIELDS = ["parameters", "few_rows", "tools", "tool_choice", "output_schema"];
const at = (name) => form.elements[name];
const find = (mark) => form.querySelector(`[data-${mark}]`);

const blocks = new Blocks(find("blocks"), document.querySelector("template[data-block]"), changed);
const variables = new Variables(find("variables"), document.querySelector("template[data-variable]"), find("no-variables"), changed);
let isDirty = false;
let waiting = null;
let round = 0;

async function ask(path, body) {
  const reply = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": token },
    body: JSON.stringify(body),
  }).catch(() => null);
  if (!reply) throw new Error("The server does not answer. What you wrote is still here.");
  if (reply.ok) return reply;
  const { error } = await reply.json().catch(() => ({}));
  throw new Error([error?.message, error?.hint].filter(Boolean).join(" ") || `The server answered ${reply.status}.`);
}

// -- between the form and a prompt's content

function fill(content) {
  blocks.set(content.messages);
  variables.set(content.variables ?? {});
  at("model").value = content.model ?? "";
  at("description").value = content.description ?? "";
  const { temperature, max_tokens: longest, ...rest } = content.parameters ?? {};
  at("temperature").value = temperature ?? "";
  at("max_tokens").value = longest ?? "";
  at("parameters").value = Object.keys(rest).length ? JSON.stringify(rest, null, 2) : "";
  const few = content.few_shot ?? null;
  form.fewRest = few ?? {};
  at("few_from").value = few === null ? "" : few.dataset ? "dataset" : "rows";
  at("few_pick").value = few?.pick ?? "fixed";
  at("few_dataset").value = few?.dataset ?? "";
  at("few_count").value = few?.count ?? 3;
  at("few_rows").value = few?.rows?.length ? JSON.stringify(few.rows, null, 2) : "";
  at("few_input").value = few?.input_template ?? FEW_INPUT;
  at("few_output").value = few?.output_template ?? FEW_OUTPUT;
  const cot = content.chain_of_thought ?? null;
  at("cot").checked = cot !== null;
  at("cot_strip").checked = cot?.strip ?? true;
  at("cot_instruction").value = cot?.instruction ?? COT.instruction;
  at("cot_marker").value = cot?.answer_marker ?? COT.answer_marker;
  at("tools").value = content.tools?.length ? JSON.stringify(content.tools, null, 2) : "";
  at("tool_choice").value = content.tool_choice === undefined ? "" : JSON.stringify(content.tool_choice);
  at("output_schema").value = content.output_schema ? JSON.stringify(content.output_schema, null, 2) : "";
  form.querySelector('[data-group="few_shot"]').open = few !== null;
  form.querySelector('[data-group="chain_of_thought"]').open = cot !== null;
  form.querySelector('[data-group="shape"]').open = Boolean(content.tools?.length || content.output_schema);
}

function readJson(name, problems, wanted) {
  const text = at(name).value.trim();
  if (!text) return undefined;
  try {
    const value = JSON.parse(text);
    const isFit = wanted === "list" ? Array.isArray(value) : wanted !== "object" || (typeof value === "object" && value !== null && !Array.isArray(value));
    if (isFit) return value;
    problems.push({ field: name, text: `This must be a JSON ${wanted}.` });
  } catch (error) {
    problems.push({ field: name, text: `No JSON: ${error.message}` });
  }
  return undefined;
}

function readNumber(name, problems) {
  const text = at(name).value.trim().replace(",", ".");
  if (!text) return undefined;
  if (Number.isNaN(Number(text))) problems.push({ text: `${name} is no number: ${text}` });
  return Number(text);
}

// The content that is written, and what cannot be read of it.
function read() {
  const problems = [];
  const content = {};
  try {
    content.messages = blocks.read();
  } catch (error) {
    problems.push({ place: "message", key: String(error.message_number), text: error.message });
  }
  const declared = variables.read();
  problems.push(...declared.problems.map((each) => ({ ...each, place: "variable" })));
  content.variables = declared.variables;
  if (at("model").value.trim()) content.model = at("model").value.trim();
  if (at("description").value.trim()) content.description = at("description").value.trim();
  const parameters = { ...readJson("parameters", problems, "object") };
  const [temperature, longest] = [readNumber("temperature", problems), readNumber("max_tokens", problems)];
  if (temperature !== undefined) parameters.temperature = temperature;
  if (longest !== undefined) parameters.max_tokens = longest;
  content.parameters = parameters;
  if (at("few_from").value) content.few_shot = readExamples(problems);
  if (at("cot").checked) content.chain_of_thought = differing({ instruction: at("cot_instruction").value, answer_marker: at("cot_marker").value, strip: at("cot_strip").checked }, COT);
  const tools = readJson("tools", problems, "list");
  if (tools) content.tools = tools;
  const choice = readJson("tool_choice", problems);
  if (choice !== undefined) content.tool_choice = choice;
  const schema = readJson("output_schema", problems, "object");
  if (schema) content.output_schema = schema;
  return { content, problems };
}

// What is said as usual is left out, so that the same prompt is the same version.
const differing = (value, usual) => Object.fromEntries(Object.entries(value).filter(([key, own]) => own !== usual[key]));

function readExamples(problems) {
  const { ids, seed } = form.fewRest; // what has no field here is kept
  const usual = { pick: "fixed", input_template: FEW_INPUT, output_template: FEW_OUTPUT, ids: undefined, seed: undefined };
  const few = differing({ ids, seed, pick: at("few_pick").value, input_template: at("few_input").value, output_template: at("few_output").value }, usual);
  const count = readNumber("few_count", problems);
  if (count !== undefined) few.count = count;
  if (at("few_from").value === "rows") few.rows = readJson("few_rows", problems, "list") ?? [];
  else if (at("few_dataset").value.trim()) few.dataset = at("few_dataset").value.trim();
  return few;
}

// -- what is wrong, while it is written

function changed() {
  isDirty = true;
  find("save").hidden = true;
  find("difference").hidden = true;
  find("review").hidden = false;
  say("");
  clearTimeout(waiting);
  waiting = setTimeout(check, 300);
}

async function check() {
  const own = (round += 1);
  const { content, problems } = read();
  let found = { problems: [], undeclared: {}, name_problem: null };
  if (content.messages) {
    try {
      const reply = await ask("/prompts/-/check", { content, ...(at("name") ? { name: at("name").value.trim() || "x" } : {}) });
      found = await reply.json();
    } catch (error) {
      say(error.message);
    }
  }
  if (own !== round) return null; // something was written meanwhile
  const all = [...problems, ...found.problems];
  blocks.tell(all);
  variables.tell(all.filter((each) => each.place === "variable"));
  for (const name of JSON_FIELDS) {
    const place = form.querySelector(`[data-wrong="${name}"]`);
    place.textContent = problems.filter((each) => each.field === name).map((each) => each.text).join(" ");
    if (place.textContent && place.closest("details")) place.closest("details").open = true;
  }
  if (at("name")) form.querySelector('[data-wrong="name"]').textContent = at("name").value.trim() ? found.name_problem ?? "" : "";
  find("general").replaceChildren(...all.filter((each) => !each.place && !each.field).map((each) => Object.assign(document.createElement("li"), { textContent: each.text })));
  offer(found.undeclared);
  return all;
}

// Names that templates read and nobody declared, each with a button.
function offer(undeclared) {
  const place = find("undeclared");
  const names = Object.entries(undeclared);
  place.hidden = !names.length;
  place.replaceChildren(names.length ? "Used and not declared: " : "");
  for (const [name, near] of names) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: `Declare ${name}` });
    button.addEventListener("click", () => {
      variables.add(name, {});
      changed();
    });
    place.append(button);
    if (near) place.append(` or did you mean ${near}?`);
  }
}

// -- review, save, try

const say = (text) => (find("said").textContent = text);

async function review() {
  clearTimeout(waiting);
  const problems = await check();
  if (problems === null) return;
  if (problems.length) {
    say(problems.length === 1 ? "One thing is in the way; it is marked." : `${problems.length} things are in the way; they are marked.`);
    form.querySelector(".is-wrong textarea")?.focus();
    return;
  }
  if (at("name") && !at("name").value.trim()) {
    say("It needs a name.");
    at("name").focus();
    return;
  }
  try {
    const reply = await ask("/prompts/-/difference", { base: form.dataset.base || null, content: read().content });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    find("difference-body").replaceChildren(...page.body.childNodes);
  } catch (error) {
    say(error.message);
    return;
  }
  const isSame = find("difference-body").querySelector("[data-no-change]") !== null;
  find("difference").hidden = false;
  find("save").hidden = isSame;
  find("review").hidden = !isSame;
  if (isSame) say("Nothing was changed, so there is nothing to save.");
  find("difference").scrollIntoView({ block: "nearest" });
  at("note").focus();
}

async function save() {
  const name = form.dataset.name || at("name").value.trim();
  find("save").disabled = true;
  say("Saving …");
  try {
    const reply = await ask(`/api/v1/prompts/${encodeURIComponent(name)}/versions`, { content: read().content, note: at("note").value.trim() });
    const version = await reply.json();
    isDirty = false;
    sessionStorage.removeItem(DRAFT);
    const notice = version.is_new ? `Version ${version.number} is saved.` : `This is what version ${version.number} says already.`;
    location.assign(`/prompts/${encodeURIComponent(name)}/${version.number}?notice=${encodeURIComponent(notice)}`);
  } catch (error) {
    say(error.message);
  } finally {
    find("save").disabled = false;
  }
}

function tryIt() {
  const { content } = read();
  if (!content.messages) return;
  sessionStorage.setItem("penstock-variant", JSON.stringify({ base: form.dataset.base, content }));
  isDirty = false;
  location.assign("/playground/compare?draft=1");
}

if (form) {
  const handed = new URLSearchParams(location.search).get("draft") ? JSON.parse(sessionStorage.getItem(DRAFT) ?? "null") : null;
  fill(handed ?? JSON.parse(form.dataset.content));
  isDirty = handed !== null;
  form.dataset.ready = "";
  check();
  form.addEventListener("input", (event) => {
    if (event.target !== at("note")) changed();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (find("save").hidden) review();
    else save();
  });
  find("save").addEventListener("click", save);
  find("try").addEventListener("click", tryIt);
  for (const button of form.querySelectorAll("[data-add]")) {
    button.addEventListener("click", () => {
      const role = button.dataset.add;
      blocks.add({ role, content: role === "slot" ? "history" : "" }, { focus: true });
      changed();
    });
  }
  find("add-variable").addEventListener("click", () => {
    variables.add("", {}, { focus: true });
    changed();
  });
  window.addEventListener("beforeunload", (event) => {
    if (isDirty) event.preventDefault();
  });
}
