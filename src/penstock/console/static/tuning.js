// A run that goes on: its page asks for what came behind the last event, and is drawn anew only when there was something.
// What a person looks at is left alone: nothing moves under the pointer, and what was opened stays open.

import { attachPlots } from "./plots.js";

const PAUSE_MS = 1500;
const region = document.querySelector("[data-run-live]");

const stateOf = () => region.querySelector("[data-run-final]");
const isLookedAt = () => region.querySelector(".plot-field:hover, .plot-box:focus") !== null;

function draw(text) {
  const open = [...region.querySelectorAll("details[open][id]")].map((each) => each.id);
  region.innerHTML = text;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  attachPlots(region);
}

async function follow() {
  const { after, seen, runFinal } = stateOf().dataset;
  if (runFinal === "yes") {
    location.reload(); // the actions of the page change with the state
    return;
  }
  if (!document.hidden && !isLookedAt() && !String(getSelection())) {
    try {
      const reply = await fetch(`${region.dataset.runLive}?${new URLSearchParams({ after, seen })}`);
      if (reply.status === 200) draw(await reply.text());
    } catch {
      // the control process may be restarting; the next round asks again
    }
  }
  setTimeout(follow, PAUSE_MS);
}

if (region && stateOf().dataset.runFinal === "no") setTimeout(follow, PAUSE_MS);
