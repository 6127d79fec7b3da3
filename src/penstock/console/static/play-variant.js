// One variant of the playground: a saved version or turns that are not saved, its settings, and the reply as it streams.

import { csrfToken, describe, formatMs, readEvents, showCost } from "./play-stream.js";
import { Blocks, fit } from "./prompt-blocks.js";

const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const PLAIN = { messages: [{ role: "user", content: "{{ input }}" }], variables: { input: {} } };
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export class Variant {
  // `changed` is told of everything that another variant or the URL must know.
  constructor(templates, changed) {
    this.element = templates.variant.content.firstElementChild.cloneNode(true);
    this.changed = changed;
    this.base = "";
    this.saved = null;
    this.content = structuredClone(PLAIN);
    this.auto = new Set();
    this.running = null;
    this.blocks = new Blocks(this.find("blocks"), templates.block, () => this.edit());
    this.find("source").addEventListener("change", () => this.take(this.find("source").value));
    for (const name of ["model", "temperature", "max-tokens"]) this.find(name).addEventListener("input", changed);
    for (const button of this.element.querySelectorAll("[data-add-turn]")) {
      button.addEventListener("click", () => {
        this.blocks.add({ role: button.dataset.addTurn, content: "" }, { focus: true });
        this.edit();
      });
    }
    this.find("turns").addEventListener("toggle", () => this.blocks.all.forEach((block) => fit(block.querySelector("[data-text]"))));
    this.find("save").addEventListener("click", () => this.save());
    this.find("stop-one").addEventListener("click", () => this.stop());
  }

  find(name) {
    return this.element.querySelector(`[data-${name}]`);
  }

  get isSaved() {
    return this.base !== "" && same(this.content, this.saved);
  }

  get variables() {
    return this.content.variables ?? {};
  }

  get model() {
    return this.find("model").value || null;
  }

  get parameters() {
    const found = {};
    for (const [name, field] of [["temperature", "temperature"], ["max_tokens", "max-tokens"]]) {
      const text = this.find(field).value.trim().replace(",", ".");
      if (text !== "" && !Number.isNaN(Number(text))) found[name] = Number(text);
    }
    return found;
  }

  // What the URL keeps.
  get state() {
    return { base: this.base, model: this.model ?? "", parameters: this.parameters, ...(this.isSaved ? {} : { content: this.content }) };
  }

  async restore(state) {
    await this.take(state.base ?? "", state.content);
    if (state.model) this.find("model").value = state.model;
    this.find("temperature").value = state.parameters?.temperature ?? "";
    this.find("max-tokens").value = state.parameters?.max_tokens ?? "";
    this.showModel();
  }

  // Begin with a saved version, or with messages of one's own.
  async take(label, content) {
    this.base = label;
    this.saved = null;
    this.auto.clear();
    this.tell("");
    if (label) {
      const [name, number] = label.replace("prompt:", "").split("@");
      const reply = await fetch(`/api/v1/prompts/${encodeURIComponent(name)}?version=${encodeURIComponent(number)}`).catch(() => null);
      if (reply?.ok) this.saved = (await reply.json()).content;
      else {
        this.tell(`${label} cannot be read.`);
        this.base = "";
      }
    }
    this.content = structuredClone(content ?? this.saved ?? PLAIN);
    this.find("source").value = this.base;
    this.blocks.set(this.content.messages);
    this.find("turns").open = !this.isSaved;
    if (!this.model && !this.content.model) this.find("model").selectedIndex = 1; // the first route, so that it can be run
    this.show();
    this.changed();
  }

  edit() {
    try {
      this.content = { ...this.content, messages: this.blocks.read() };
    } catch (error) {
      this.tell(error.message);
      return;
    }
    this.show();
    this.changed();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.check(), 300);
  }

  // Names that turns use become text variables, and go again with their last use.
  async check() {
    const reply = await fetch("/prompts/-/check", {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf-token": csrfToken() },
      body: JSON.stringify({ content: this.content }),
    }).catch(() => null);
    if (!reply?.ok) return;
    const found = await reply.json();
    const variables = { ...this.variables };
    for (const name of Object.keys(found.undeclared)) {
      variables[name] = {};
      this.auto.add(name);
    }
    for (const name of found.unused) {
      if (this.auto.has(name) || !this.base) delete variables[name];
    }
    this.content = { ...this.content, variables };
    this.blocks.tell(found.problems.filter((each) => !/is used and not declared/.test(each.text)));
    this.show();
    this.changed();
  }

  show() {
    const count = this.content.messages.length;
    this.find("summary").textContent = count === 1 ? "1 message" : `${count} messages`;
    this.find("changed").hidden = this.isSaved || !this.base;
    this.find("save").hidden = this.isSaved;
    this.showModel();
  }

  showModel() {
    const own = this.find("model").querySelector("[data-own]");
    own.textContent = this.content.model ? `its own: ${this.content.model}` : "choose one";
  }

  tell(text) {
    this.find("bad").hidden = !text;
    this.find("bad").textContent = text;
  }

  stop() {
    this.running?.abort();
  }

  save() {
    sessionStorage.setItem("penstock-prompt-draft", JSON.stringify({ ...this.content, ...(this.model ? { model: this.model } : {}), parameters: { ...this.content.parameters, ...this.parameters } }));
    const name = this.base.replace("prompt:", "").split("@")[0];
    const number = this.base.split("@")[1];
    location.assign(name ? `/prompts/${encodeURIComponent(name)}/edit?version=${number}&draft=1` : "/prompts/new?draft=1");
  }

  async run(values, messages) {
    this.stop();
    const running = (this.running = new AbortController());
    const said = this.find("said");
    const meta = this.find("meta");
    said.textContent = "";
    meta.replaceChildren();
    this.tell("");
    said.classList.add("waiting");
    this.find("stop-one").hidden = false;
    const variables = Object.fromEntries(Object.keys(this.variables).filter((name) => name in values).map((name) => [name, values[name]]));
    const call = { variables, messages, parameters: this.parameters, ...(this.model ? { model: this.model } : {}), ...(this.isSaved ? { prompt: this.base } : { content: this.content }) };
    const started = performance.now();
    const facts = { firstToken: null, usage: null, traceId: null };
    let answer = "";
    try {
      const reply = await fetch("/playground/variant", {
        method: "POST",
        headers: { "content-type": "application/json", "x-csrf-token": csrfToken() },
        body: JSON.stringify(call),
        signal: running.signal,
      });
      facts.traceId = reply.headers.get("x-penstock-trace-id");
      if (!reply.ok) throw new Error(describe((await reply.json()).error ?? {}));
      for await (const event of readEvents(reply.body)) {
        if (event.error) throw new Error(describe(event.error));
        const delta = event.choices?.[0]?.delta ?? {};
        if (delta.content || delta.tool_calls) facts.firstToken ??= performance.now() - started;
        for (const tool of delta.tool_calls ?? []) answer += `${tool.function?.name ? `\n${tool.function.name} ` : ""}${tool.function?.arguments ?? ""}`;
        answer += delta.content ?? "";
        said.textContent = answer;
        if (event.usage) facts.usage = event.usage;
      }
      if (!answer) said.append(Object.assign(make("span", "The reply is empty."), { className: "faint" }));
    } catch (error) {
      if (this.running !== running) return; // it was run anew
      this.tell(error.name === "AbortError" ? "Stopped." : error.message);
    }
    if (this.running !== running) return;
    this.running = null;
    said.classList.remove("waiting");
    this.find("stop-one").hidden = true;
    this.showMeta(meta, facts, performance.now() - started);
  }

  showMeta(meta, facts, total) {
    if (facts.firstToken !== null) meta.append(make("span", `first token ${formatMs(facts.firstToken)}`));
    meta.append(make("span", `total ${formatMs(total)}`));
    if (facts.usage) meta.append(make("span", `${facts.usage.prompt_tokens ?? "–"} tokens in, ${facts.usage.completion_tokens ?? "–"} out`));
    if (!facts.traceId) return;
    const cost = make("span", "cost …");
    meta.append(cost, Object.assign(make("a", "Trace"), { href: `/traces/${facts.traceId}` }));
    showCost(cost, facts.traceId);
  }
}
