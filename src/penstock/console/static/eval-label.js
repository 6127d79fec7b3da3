// Labelling with the keyboard: one output at a time, a digit says it and the next one comes. Without this script all outputs
// of the page stand below each other, each with its own form.

const page = document.querySelector("[data-label-page]");
const items = page ? [...page.querySelectorAll("[data-label-item]")] : [];
const status = page?.querySelector("[data-label-status]");
let at = 0;

function show(next) {
  at = Math.min(Math.max(next, 0), items.length - 1);
  items.forEach((item, index) => {
    item.hidden = index !== at;
    for (const button of item.querySelectorAll("[data-label-step]")) {
      button.hidden = false;
      button.disabled = button.dataset.labelStep === "-1" && at === 0;
    }
  });
}

async function say(form, button) {
  const fields = new URLSearchParams(new FormData(form));
  fields.set("answer", button.value);
  status.textContent = "";
  status.className = "faint";
  let reply;
  try {
    reply = await fetch(form.action, { method: "POST", body: fields, headers: { accept: "application/json" } });
  } catch {
    reply = null;
  }
  if (!reply?.ok) {
    const told = await reply?.json().catch(() => null);
    status.className = "bad";
    status.textContent = told?.error?.message ?? "The label was not kept. Try again.";
    return;
  }
  const item = form.closest("[data-label-item]");
  item.dataset.said = button.value;
  for (const each of form.querySelectorAll("[data-key]")) each.setAttribute("aria-pressed", String(each === button));
  status.textContent = `${items.filter((each) => "said" in each.dataset).length} of ${items.length} labelled on this page`;
  skip(1);
}

// Past the last output the next ones are asked for; what was skipped comes again.
function skip(by) {
  if (at + by < items.length) show(at + by);
  else if (items.some((item) => "said" in item.dataset)) location.reload();
}

if (items.length) {
  show(0);
  page.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter?.dataset.key) say(event.target, event.submitter);
  });
  page.addEventListener("click", (event) => {
    const stepper = event.target.closest("[data-label-step]");
    if (stepper) skip(Number(stepper.dataset.labelStep));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select")) return;
    const button = items[at].querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (button) button.click();
    else if (event.key === "j") skip(1);
    else if (event.key === "k") show(at - 1);
  });
}
