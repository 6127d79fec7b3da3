// Payloads as a tree that is built as it is opened: a large one never holds up the page.

import { make, parseExact } from "./trace-words.js";

const MAX_CHARS = 4_000_000;
const STEP = 100;
const MAX_TEXT = 2000;
const OPEN_UNDER = 24;
const OPEN_DEPTH = 3;

export function startJson(panel, base) {
  let kept = { id: null, reply: null };
  const show = async (details) => {
    const place = details.querySelector?.("[data-json]");
    if (!place || !details.open || place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const id = panel.querySelector("[data-span-id]").dataset.spanId;
    if (kept.id !== id) kept = { id, reply: read(base, id) };
    try {
      const payload = await kept.reply;
      place.replaceChildren(...(payload ? [draw(payload[place.dataset.json])] : [tooLarge(base, id)]));
    } catch {
      kept = { id: null, reply: null };
      delete place.dataset.drawn; // what the server drew stays
    }
  };
  panel.addEventListener("toggle", (event) => show(event.target), true);
  for (const details of panel.querySelectorAll("details[open]")) show(details); // they were open before this script was here
}

async function read(base, id) {
  const reply = await fetch(`/api/v1${base}/spans/${id}/payload`);
  if (!reply.ok) throw new Error(String(reply.status));
  if (Number(reply.headers.get("content-length")) > MAX_CHARS) {
    reply.body?.cancel();
    return null;
  }
  const text = await reply.text();
  return text.length > MAX_CHARS ? null : parseExact(text);
}

function tooLarge(base, id) {
  const words = make("p", "faint", "Too large to be shown as a tree. ");
  const link = make("a", "", "Download it");
  link.href = `/api/v1${base}/spans/${id}/payload?download=true`;
  words.append(link);
  return words;
}

export function draw(value) {
  const tree = make("div", "json");
  tree.append(node(null, value, 0));
  return tree;
}

function node(name, value, depth) {
  if (JSON.isRawJSON?.(value)) return leaf(name, value.rawJSON, "json-value");
  if (value === null || typeof value !== "object") return leaf(name, value);
  const entries = Array.isArray(value) ? null : Object.keys(value);
  const size = entries ? entries.length : value.length;
  if (!size) return leaf(name, entries ? "{}" : "[]", "faint");
  const details = make("details");
  const summary = make("summary");
  if (name !== null) summary.append(make("span", "json-name", name), ": ");
  summary.append(make("span", "faint", entries ? `{${size}}` : `[${size}]`), " ", make("span", "faint json-hint", hint(value, entries)));
  details.append(summary);
  const fill = () => {
    if (details.childElementCount === 1) addPart(details, value, entries, 0, depth);
  };
  if (depth < OPEN_DEPTH && size < OPEN_UNDER) {
    details.open = true;
    fill();
  } else details.addEventListener("toggle", fill, { once: true });
  return details;
}

function addPart(details, value, entries, from, depth) {
  const size = entries ? entries.length : value.length;
  const until = Math.min(size, from + STEP);
  for (let at = from; at < until; at += 1) {
    const name = entries ? entries[at] : String(at);
    details.append(node(name, value[name], depth + 1));
  }
  if (until === size) return;
  const more = make("button", "plain", `${size - until} more`);
  more.type = "button";
  more.addEventListener("click", () => {
    more.remove();
    addPart(details, value, entries, until, depth);
  });
  details.append(more);
}

function hint(value, entries) {
  const first = entries ? entries.slice(0, 4).join(", ") : typeof value[0] === "object" ? "" : String(value[0]).slice(0, 40);
  return first.slice(0, 60);
}

function leaf(name, value, style) {
  const line = make("div", "json-leaf");
  if (name !== null) line.append(make("span", "json-name", name), ": ");
  const text = typeof value === "string" && style === undefined ? value : String(value);
  const kind = style ?? (typeof value === "string" ? "json-text" : "json-value");
  const shown = make("span", kind, text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text);
  line.append(shown);
  if (text.length > MAX_TEXT) {
    const more = make("button", "plain", `${(text.length - MAX_TEXT).toLocaleString("en-US")} more characters`);
    more.type = "button";
    more.addEventListener("click", () => {
      shown.textContent = text;
      more.remove();
    });
    line.append(more);
  }
  return line;
}
