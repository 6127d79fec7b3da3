// Sends a file to be checked, shows what it holds and what is wrong with it, and stores it when asked.

const form = document.querySelector("[data-import]");
const result = document.querySelector("[data-result]");
const store = form.querySelector("[data-store]");
const state = form.querySelector("[data-state]");
const token = document.querySelector('meta[name="csrf-token"]')?.content ?? "";

function query() {
  const wanted = new URLSearchParams({ file: form.elements.file.files[0]?.name ?? "" });
  for (const name of ["format", "split", "license", "description"]) {
    const value = form.elements[name].value.trim();
    if (value) wanted.set(name, value);
  }
  for (const pair of form.elements.map.value.split(/\s+/).filter(Boolean)) wanted.append("map", pair);
  if (form.elements.skip_invalid.checked) wanted.set("skip_invalid", "true");
  return wanted;
}

async function send(path, wanted) {
  const reply = await fetch(`${path}?${wanted}`, {
    method: "POST",
    headers: { "x-csrf-token": token, "content-type": "application/octet-stream" },
    body: form.elements.file.files[0],
  });
  const value = await reply.json().catch(() => ({}));
  if (!reply.ok) throw value.error ?? { message: `The server answered ${reply.status}.` };
  return value;
}

function cell(row, text) {
  row.insertCell().textContent = text ?? "–";
  row.lastElementChild.className = "wrap";
}

function show(verdict, facts, problems, samples) {
  result.hidden = false;
  result.querySelector("[data-verdict]").textContent = verdict;
  result.querySelector("[data-facts]").replaceChildren(
    ...facts.map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(Object.assign(document.createElement("dt"), { textContent: name }));
      pair.append(Object.assign(document.createElement("dd"), { textContent: value }));
      return pair;
    }),
  );
  const table = result.querySelector("[data-problems]");
  table.hidden = !problems.length;
  table.tBodies[0].replaceChildren();
  for (const each of problems) {
    const row = table.tBodies[0].insertRow();
    cell(row, each.place);
    cell(row, each.column);
    cell(row, each.message);
  }
  const shown = result.querySelector("[data-samples]");
  shown.hidden = !samples.length;
  shown.querySelectorAll("pre").forEach((each) => each.remove());
  for (const each of samples) {
    shown.append(Object.assign(document.createElement("pre"), { textContent: JSON.stringify(each, null, 2) }));
  }
}

function tell(error) {
  show(`${error.message} ${error.hint ?? ""}`, [], error.fields?.problems ?? [], []);
}

async function check() {
  const wanted = query();
  const found = await send("/api/v1/datasets/check", wanted);
  const n = found.n_problems ?? 0;
  const isSkipping = form.elements.skip_invalid.checked;
  const isWell = found.n_rows > 0 && (!n || isSkipping);
  const splits = Object.entries(found.splits ?? {}).map(([name, count]) => `${name || "(none)"} ${count}`);
  show(
    isWell ? `${found.n_rows.toLocaleString()} rows can be stored` : n ? `${n.toLocaleString()} ${n === 1 ? "problem" : "problems"}` : "Not one row",
    [
      ["Rows that are well", found.n_rows.toLocaleString()],
      ["Problems", n.toLocaleString()],
      ["Format", found.format ?? "unknown"],
      ["Read as", found.layout],
      ["Fields", (found.fields ?? []).join(", ") || "none"],
      ["Splits", splits.join(" · ") || "none"],
    ],
    found.problems ?? [],
    found.samples ?? [],
  );
  return isWell;
}

async function busy(words, work) {
  state.textContent = words;
  store.disabled = true;
  try {
    return await work();
  } catch (error) {
    tell(error);
    return false;
  } finally {
    state.textContent = "";
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  store.disabled = !(await busy("Checking …", check));
});

form.addEventListener("change", () => {
  store.disabled = true;
  const file = form.elements.file.files[0];
  if (file && !form.elements.name.value) {
    form.elements.name.value = file.name
      .toLowerCase()
      .replace(/\.[a-z]+$/, "")
      .replace(/[^a-z0-9._-]+/g, "-")
      .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "");
  }
});

store.addEventListener("click", async () => {
  if (!form.reportValidity()) return;
  const name = form.elements.name.value;
  const wanted = query();
  if (form.elements.append.checked) wanted.set("append", "true");
  const made = await busy("Storing …", () => send(`/api/v1/datasets/${encodeURIComponent(name)}/upload`, wanted));
  if (made) location.assign(`/datasets/${encodeURIComponent(name)}/${made.number}`);
  else store.disabled = false;
});
