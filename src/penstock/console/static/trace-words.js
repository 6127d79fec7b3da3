// How values read on the trace page: as the server's pages say them. Unknown is a dash.

export const DASH = "–";

export const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

export const count = (value) => (value === null || value === undefined ? DASH : Math.round(value).toLocaleString("en-US"));

export function span(us) {
  if (us === null || us === undefined) return DASH;
  const ms = us / 1000;
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  const two = (number) => String(number).padStart(2, "0");
  return minutes < 60 ? `${minutes} min ${two(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

export function money(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "$0";
  if (value >= 1) return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  if (value < 0.000001) return "< $0.000001";
  const digits = Math.min(10, Math.max(2, 1 - Math.floor(Math.log10(value))));
  return `$${value.toFixed(digits)}`;
}

// JSON with every number as it was written, where the browser can keep it: a double has no room for an order's 19 digits.
const ODD_NUMBER = /[\d.]{16}|\.\d*0(?!\d)|\d[eE]|-0/;
export function parseExact(text) {
  if (!ODD_NUMBER.test(text)) return JSON.parse(text);
  if (!JSON.rawJSON) throw new Error("this browser would round numbers");
  return JSON.parse(text, (_, value, { source }) => (typeof value === "number" && String(value) !== source ? JSON.rawJSON(source) : value));
}

// Colours come from the style sheet; a canvas wants them worked out.
export function colours(names) {
  const probe = make("span", "hidden");
  document.body.append(probe);
  const found = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

// How well one colour is read on another, 1 to 21 (WCAG 2.2).
export function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = colour
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map((each) => (each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

const BAR = { llm: "bar-llm", embedding: "bar-find", retrieval: "bar-find", rerank: "bar-find", app: "bar-app", chain: "bar-app", agent: "bar-app", attempt: "bar-llm" };
export const barOf = (kind, isError) => (isError ? "bar-bad" : BAR[kind] ?? "bar-other");
export const BARS = ["bar-llm", "bar-find", "bar-app", "bar-other", "bar-bad", "ink", "ink-faint", "rule", "rule-strong", "accent", "accent-soft", "ground", "raised", "red", "amber"];

// Text to the clipboard, also where the page is not served over TLS.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = make("textarea", "hidden", text);
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
