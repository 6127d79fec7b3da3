// Cases of an evaluation: the one in focus opens beside the list without leaving it; what is counted slowly comes when the
// page stands. Without this script every case is a link to the same page with the case in it.

const split = document.querySelector("[data-cases]");
const panel = split?.querySelector("[data-case-panel]");
const links = () => [...split.querySelectorAll("a.open[data-panel]")];
let asked = 0;
let waiting = 0;

async function open(link, isFocused = true) {
  const turn = ++asked;
  let text;
  try {
    const reply = await fetch(link.dataset.panel, { headers: { accept: "text/html" } });
    if (!reply.ok) throw new Error(String(reply.status));
    text = await reply.text();
  } catch {
    location.assign(link.href); // the page itself says what is wrong
    return;
  }
  if (turn !== asked) return; // another one was asked for meanwhile
  panel.innerHTML = text;
  panel.hidden = false;
  panel.scrollTop = 0;
  split.classList.add("has-case");
  for (const row of split.querySelectorAll("tr[aria-selected]")) row.removeAttribute("aria-selected");
  link.closest("tr").setAttribute("aria-selected", "true");
  history.replaceState(null, "", link.href.replace(/#.*/, ""));
  showSteps();
  if (isFocused && panel.getBoundingClientRect().width > split.getBoundingClientRect().width * 0.9) {
    panel.scrollIntoView({ block: "start" }); // it stands above the list where there is no room beside it
  }
}

function close() {
  const link = panel.querySelector("[data-close]");
  const row = split.querySelector("tr[aria-selected]");
  panel.hidden = true;
  panel.replaceChildren();
  split.classList.remove("has-case");
  row?.removeAttribute("aria-selected");
  row?.querySelector("a.open")?.focus({ focusVisible: true });
  if (link) history.replaceState(null, "", link.href.replace(/#.*/, ""));
}

function step(by) {
  const all = links();
  const at = all.findIndex((link) => link.closest("tr").hasAttribute("aria-selected"));
  const next = all[at + by];
  if (next) open(next);
}

function showSteps() {
  const all = links();
  const at = all.findIndex((link) => link.closest("tr").hasAttribute("aria-selected"));
  for (const button of panel.querySelectorAll("[data-step]")) {
    button.hidden = false;
    button.disabled = !all[at + Number(button.dataset.step)];
  }
}

if (split) {
  split.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("a.open[data-panel]");
    const stepper = event.target.closest("[data-step]");
    if (link) {
      event.preventDefault();
      open(link);
    } else if (stepper) step(Number(stepper.dataset.step));
    else if (event.target.closest("[data-close]")) {
      event.preventDefault();
      close();
    }
  });
  split.addEventListener("row-focus", (event) => {
    if (panel.hidden || !event.target.matches("a.open[data-panel]")) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => open(event.target, false), 120);
  });
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || panel.hidden || document.querySelector("dialog[open]")) return;
      if (event.target.closest("input, textarea, select")) return;
      event.stopPropagation();
      close();
    },
    true,
  );
  if (!panel.hidden) showSteps();
}

for (const place of document.querySelectorAll("[data-fragment]")) {
  fetch(place.dataset.fragment, { headers: { accept: "text/html" } })
    .then((reply) => (reply.ok ? reply.text() : Promise.reject(new Error(String(reply.status)))))
    .then((text) => {
      place.innerHTML = text;
    })
    .catch(() => {
      place.textContent = "This could not be counted.";
    });
}
