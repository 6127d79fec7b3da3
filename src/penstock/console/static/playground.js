// A conversation with one model, streamed through the control process. Every text is set as text, never as HTML.

import { csrfToken, describe, formatMs, readEvents, showCost } from "./play-stream.js";

const root = document.querySelector("[data-playground]");
const turns = root?.querySelector("[data-turns]");
const ask = root?.querySelector("[data-ask]");
const settings = root?.querySelector(".play-settings");
let messages = [];
let running = null;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

function addTurn(role, text) {
  const turn = make("article", `turn turn-${role}`);
  turn.append(make("h3", "", role));
  const said = make("div", "said", text);
  turn.append(said);
  turns.append(turn);
  return { turn, said };
}

function showVersion() {
  const option = settings.elements.model.selectedOptions[0];
  root.querySelector("[data-version-line]").textContent = option?.dataset.version || "";
  const asked = root.querySelector("[data-asked]");
  if (asked && option) asked.textContent = option.value;
  const examples = root.querySelector("[data-examples]");
  if (examples) examples.hidden = option?.value !== examples.dataset.examples;
}

function readSettings() {
  const number = (name) => {
    const text = settings.elements[name].value.trim().replace(",", ".");
    return text === "" || Number.isNaN(Number(text)) ? undefined : Number(text);
  };
  return { temperature: number("temperature"), max_tokens: number("max_tokens") };
}

function showCitations(turn, citations) {
  if (!citations.length) return;
  const list = make("ol", "citations");
  for (const each of citations) {
    const item = make("li");
    item.append(make("b", "", each.document), each.section ? `, ${each.section}` : "", make("q", "", each.quote));
    list.append(item);
  }
  turn.append(list);
}

function showMeta(turn, facts) {
  const meta = make("p", "meta");
  if (facts.firstToken !== null) meta.append(make("span", "", `first token ${formatMs(facts.firstToken)}`));
  meta.append(make("span", "", `total ${formatMs(facts.total)}`));
  if (facts.usage) meta.append(make("span", "", `${facts.usage.prompt_tokens ?? "–"} tokens in, ${facts.usage.completion_tokens ?? "–"} out`));
  if (facts.overhead) meta.append(make("span", "", `gateway ${facts.overhead} ms`));
  if (facts.traceId) {
    const cost = make("span", "", "cost …");
    const link = make("a", "", "Trace");
    link.href = `/traces/${facts.traceId}`;
    meta.append(cost, link);
    showCost(cost, facts.traceId);
  }
  turn.append(meta);
}

async function send(text) {
  root.querySelector("[data-hello]")?.remove();
  addTurn("user", text);
  messages.push({ role: "user", content: text });
  const system = settings.elements.system.value.trim();
  const call = { model: settings.elements.model.value, messages: system ? [{ role: "system", content: system }, ...messages] : messages, ...readSettings() };
  const { turn, said } = addTurn("assistant", "");
  said.classList.add("waiting");
  running = new AbortController();
  setBusy(true);
  const started = performance.now();
  const facts = { firstToken: null, usage: null, overhead: null, traceId: null, total: 0 };
  let answer = "";
  let citations = [];
  try {
    const reply = await fetch("/playground/call", {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf-token": csrfToken() },
      body: JSON.stringify(call),
      signal: running.signal,
    });
    facts.traceId = reply.headers.get("x-penstock-trace-id");
    facts.overhead = reply.headers.get("x-penstock-overhead-ms");
    if (!reply.ok) throw new Error(describe((await reply.json()).error ?? {}));
    for await (const event of readEvents(reply.body)) {
      if (event.error) throw new Error(describe(event.error));
      const piece = event.choices?.[0]?.delta?.content;
      if (piece) {
        facts.firstToken ??= performance.now() - started;
        answer += piece;
        said.textContent = answer;
      }
      if (event.usage) facts.usage = event.usage;
      if (event.citations?.length) citations = event.citations;
    }
    messages.push({ role: "assistant", content: answer });
  } catch (error) {
    const words = error.name === "AbortError" ? "Stopped." : error.message;
    turn.classList.add("turn-error");
    turn.append(make("p", "bad", words));
    if (answer) messages.push({ role: "assistant", content: answer });
    else messages.pop();
  }
  said.classList.remove("waiting");
  facts.total = performance.now() - started;
  showCitations(turn, citations);
  showMeta(turn, facts);
  turn.scrollIntoView({ block: "nearest" });
  running = null;
  setBusy(false);
}

function setBusy(isBusy) {
  ask.querySelector("[data-send]").disabled = isBusy;
  ask.querySelector("[data-stop]").hidden = !isBusy;
}

function submit() {
  const field = ask.elements.user;
  const text = field.value.trim();
  if (!text || running) return;
  field.value = "";
  send(text);
}

// The talk that a recorded request brought along.
function takeUp(earlier) {
  messages = JSON.parse(earlier);
  root.querySelector("[data-hello]")?.remove();
  for (const message of messages) addTurn(message.role, message.content);
}

if (root) {
  showVersion();
  if (root.dataset.earlier) takeUp(root.dataset.earlier);
  settings.elements.model.addEventListener("change", showVersion);
  settings.addEventListener("submit", (event) => event.preventDefault());
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  ask.elements.user.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  ask.querySelector("[data-stop]").addEventListener("click", () => running?.abort());
  root.querySelector("[data-new]").addEventListener("click", () => {
    messages = [];
    turns.replaceChildren();
    ask.elements.user.focus();
  });
  for (const example of root.querySelectorAll("[data-example]")) {
    example.addEventListener("click", () => {
      ask.elements.user.value = example.textContent;
      submit();
    });
  }
}
