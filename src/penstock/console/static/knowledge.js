// Pages of knowledge: parts that take longer are fetched on their own, and judgements are kept without leaving the page.

for (const place of document.querySelectorAll("[data-fetch]")) {
  fetch(place.dataset.fetch, { headers: { accept: "text/html" } })
    .then(async (reply) => {
      if (reply.ok) place.innerHTML = await reply.text();
    })
    .catch(() => {}); // the link that stands there leads to the same
}

// Relevant or not: one press keeps it. Without this script the form leads back to the page.
for (const form of document.querySelectorAll("form[data-judge]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter;
    const fields = new URLSearchParams(new FormData(form, button));
    const said = form.querySelector("[data-said]");
    for (const each of form.querySelectorAll("button")) each.disabled = true;
    try {
      const reply = await fetch(form.action, { method: "POST", body: fields, headers: { accept: "application/json" } });
      if (!reply.ok) throw new Error(`not kept (${reply.status})`);
      for (const each of form.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === button));
      said.textContent = "kept";
    } catch (error) {
      said.textContent = error.message;
    }
    for (const each of form.querySelectorAll("button")) each.disabled = false;
  });
}

// A link to a closed part opens it.
function openTarget() {
  const part = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part instanceof HTMLDetailsElement) {
    part.open = true;
    part.querySelector("input:not([type=hidden]), select, textarea, a, button")?.focus();
  }
}
addEventListener("hashchange", openTarget);
openTarget();
