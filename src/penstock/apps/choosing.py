"""Which sentences of what was found the answering model is shown: near enough, within the app's bounds, and as the filter says."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial

from penstock.apps.evidence import PackSentences
from penstock.apps.grounding import MAX_MARKS, Source, keep_near, pack_sources
from penstock.apps.run_state import Run
from penstock.apps.steps import Steps
from penstock.apps.tracing import Tracer
from penstock.apps.types import FoundPassage, Reason


class Choosing:
    """Chooses for any number of runs at once on one event loop."""

    def __init__(
        self, steps: Steps, tracer: Tracer, *, pack: PackSentences | None, executor: Executor
    ) -> None:
        """Without `pack` everybody's sentences are bounded by words."""
        self._steps = steps
        self._tracer = tracer
        self._pack = pack
        self._executor = executor

    async def choose(self, run: Run, hits: Sequence[FoundPassage]) -> tuple[list[Source], Reason]:
        """Return the sentences to show, and why there are none if there are none."""
        sources = await self._pack_sources(run, hits)
        if not sources or "filter" not in run.app.steps:
            return sources, "nothing-found"
        shown = {source.passage.passage_id for source in sources}
        near = [hit for hit in hits if hit.passage_id in shown]
        kept = await self._steps.filter(run, near)
        run.span.attributes["app.n_filtered"] = len(near) - len(kept)
        if len(kept) == len(near):
            return sources, "nothing-relevant"
        return await self._pack_sources(run, kept), "nothing-relevant"

    async def _pack_sources(self, run: Run, hits: Sequence[FoundPassage]) -> list[Source]:
        app = run.app
        if app.max_prompt_tokens is None or self._pack is None:
            return pack_sources(app, hits)
        near = keep_near(app, hits)
        if not near:
            return []
        with self._tracer.span("pack", "chain", run.span.below) as span:
            span.input = {
                "budget": app.max_prompt_tokens,
                "model": app.model,
                "passages": [hit.passage_id for hit in near],
            }
            work = partial(
                self._pack,
                near,
                model=app.model,
                budget=app.max_prompt_tokens,
                max_items=min(app.max_sentences, MAX_MARKS),
            )
            packed, counted_by = await asyncio.get_running_loop().run_in_executor(self._executor, work)
            span.output = {
                "n_sentences": len(packed.items),
                "n_tokens": packed.n_tokens,
                "left_out": [
                    {"passage_id": each.passage_id, "rank": each.rank, "reason": each.reason}
                    for each in packed.left_out
                ],
            }
            span.attributes["app.counted_by"] = counted_by
            run.span.attributes["app.n_context_tokens"] = packed.n_tokens
            run.span.attributes["app.n_left_out"] = len(packed.left_out)
        return [
            Source(mark=place, sentence=item.text, passage=item.hit)
            for place, item in enumerate(packed.items, 1)
        ]
