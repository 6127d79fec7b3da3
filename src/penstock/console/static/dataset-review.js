// Review with the keyboard: j and k move, a accepts, e edits, x rejects. Decisions are sent without leaving the page.

const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
const said = document.querySelector("[data-said]");
const all = () => [...document.querySelectorAll("[data-proposal]")];
const current = () => document.activeElement?.closest?.("[data-proposal]") ?? null;

function go(step) {
  const items = all();
  const at = items.indexOf(current());
  const next = items[at < 0 ? 0 : Math.min(Math.max(at + step, 0), items.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function recount(from, to) {
  for (const [name, step] of [[from, -1], [to, 1]]) {
    const place = document.querySelector(`[data-count="${name}"]`);
    if (place) place.textContent = String(Number(place.textContent.replace(/\D/g, "")) + step);
  }
}

async function decide(item, verdict) {
  const form = item.querySelector("[data-decide]");
  if (!form || item.dataset.busy) return;
  const wrong = form.querySelector("[data-wrong]");
  const body = {};
  if (verdict === "reject") body.reason = form.elements.reason?.value ?? "";
  else {
    const text = form.elements.fields;
    if (text.value !== text.dataset.original) {
      try {
        body.fields = JSON.parse(text.value);
      } catch (error) {
        wrong.textContent = `The fields are no JSON: ${error.message}`;
        return;
      }
    }
  }
  item.dataset.busy = "yes";
  const reply = await fetch(`/api/v1/dataset-proposals/${item.dataset.proposal}/${verdict}`, {
    method: "POST",
    headers: { "x-csrf-token": token, "content-type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
  const value = (await reply?.json().catch(() => null)) ?? {};
  delete item.dataset.busy;
  if (!reply?.ok) {
    wrong.textContent = value.error?.message ?? "The server does not answer.";
    return;
  }
  wrong.textContent = "";
  item.classList.add("is-decided");
  recount(form.elements.state.value, value.state);
  said.hidden = false;
  said.textContent = value.state === "accepted" ? "Accepted. It waits to be added to its dataset." : "Rejected.";
  showAdd(value);
  form.remove();
  go(1);
}

// The button that makes the version, once something was accepted here.
function showAdd(value) {
  if (value.state !== "accepted") return;
  const button = document.querySelector("[data-add] button");
  const count = document.querySelector('[data-count="accepted"]')?.textContent;
  if (button) button.textContent = `Add ${count} accepted to ${value.dataset}`;
  else {
    const link = Object.assign(document.createElement("a"), {
      href: `/dataset-proposals?state=accepted&dataset=${encodeURIComponent(value.dataset)}`,
      textContent: " See what was accepted",
    });
    said.append(link);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-decide]");
  if (!form) return;
  event.preventDefault();
  void decide(form.closest("[data-proposal]"), event.submitter?.value === "reject" ? "reject" : "accept");
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select")) {
    if (event.key === "Escape") event.target.closest("[data-proposal]")?.focus();
    return;
  }
  const item = current();
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (!item) return;
  else if (event.key === "a") void decide(item, "accept");
  else if (event.key === "x") void decide(item, "reject");
  else if (event.key === "e") {
    const editor = item.querySelector("[data-editor]");
    if (!editor) return;
    event.preventDefault();
    editor.open = true;
    editor.querySelector("textarea").focus();
  }
});

if (!location.hash) all()[0]?.focus({ preventScroll: true });
