// What both playgrounds need of a streamed call: its events, its errors, its time and its price.

export const csrfToken = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += decoder.decode(value, { stream: !done });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
    if (done) return;
  }
}

export function describe(error) {
  return [error.message, error.hint].filter(Boolean).join(" ") || "The call failed.";
}

export const formatMs = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);

export async function showCost(place, traceId) {
  // The span is searchable a moment after the reply; the price is in it.
  for (let round = 0; round < 12; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    const reply = await fetch(`/api/v1/traces/${traceId}`);
    if (!reply.ok) continue;
    const { summary } = await reply.json();
    place.textContent = summary.cost_usd == null ? "cost unknown" : `$${Number(summary.cost_usd) === 0 ? "0" : summary.cost_usd}`;
    return;
  }
  place.textContent = "cost not recorded yet";
}
