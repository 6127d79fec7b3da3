"""Fills the span store of a home with traces as a busy month would leave them: for benchmarks, pictures and trying out.

    python bench/fill.py HOME [--spans 1000000] [--days 30] [--until 2026-11-21T12:00:00] [--seed 1]

HOME is a home directory that is not running, or a path that ends in `.duckdb`. About 200,000 traces a million spans: chats,
answers from documents, agents with tools, batches, one trace of 50,000 and one of 10,000 spans; conversations over
several turns, users of whom few ask much, failures, retries, prices, cache hits, scores. Everything goes in by `append`, in order of
time, with some spans late. `zanzibar` stands in seven traces, `zqxj` in none, `order refund` in many.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from penstock.spec.home import Home
from penstock.spec.scores import SpanScore
from penstock.spec.spans import FOREIGN_MARK, Span, SpanEvent, SpanLink
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.traces.collector import ROUND_SPANS
from words import TextSource

DAY_NS = 86_400_000_000_000
S = 1_000_000_000
BIG_TRACES = (50_000, 10_000)
N_RARE = 7
_MODELS = (
    ("openai", "gpt-4o-mini", 0.15, 0.60, 46),
    ("openai", "gpt-4o", 2.50, 10.0, 14),
    ("anthropic", "claude-haiku", 0.80, 4.0, 16),
    ("anthropic", "claude-sonnet", 3.0, 15.0, 12),
    ("engine", "pocket", 0.0, 0.0, 12),
)
_ROUTES = ("support", "handbook", "pocket", "draft", "triage")
_ERRORS = (
    ("PS-4201", "The upstream answered 500.", 500),
    ("PS-4203", "No answer within 60 s.", 504),
    ("PS-2301", "The limit of this key is reached.", 429),
)
_TOOLS = ("find_order", "refund", "search_stock", "track_parcel", "write_mail", "read_policy")
_TAGS = ("vip", "returns", "german", "beta", "night")
_encode = msgspec.json.Encoder(decimal_format="string").encode


class Filler:
    """Makes traces. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._texts = TextSource(seed)
        self._systems = [self._texts.text(self._rng.randrange(300, 1400)) for _ in range(14)]
        self._sessions: list[tuple[str, str, int]] = []
        self._n_rare = 0
        self._scores: list[Span] = []

    def trace(self, start_ns: int, *, size: int | None = None) -> list[Span]:
        """Return one trace that began at `start_ns`; of about `size` spans where that is given."""
        rng = self._rng
        about = self._about()
        draw = rng.random()
        if size is not None:
            spans = self._agent(start_ns, about, size)
        elif draw < 0.60:
            spans = [self._call(start_ns, about, parent=None)]
            if rng.random() < 0.03:
                spans.append(self._attempt(spans[0]))
        elif draw < 0.88:
            spans = self._document_answer(start_ns, about)
        elif draw < 0.997:
            spans = self._agent(start_ns, about, rng.randrange(4, 22))
        else:
            spans = self._agent(start_ns, about, rng.randrange(100, 800))
        if rng.random() < 0.06:
            self._scores.append(self._judge(spans[0]))
        return spans

    def take_scores(self) -> list[Span]:
        """Return the judgements of the traces made since the last call."""
        taken, self._scores = self._scores, []
        return taken

    def _about(self) -> dict[str, Any]:
        """Return what all spans of a trace share: whose it is, where it ran, which conversation it belongs to."""
        rng = self._rng
        if self._sessions and rng.random() < 0.38:
            place = rng.randrange(len(self._sessions))
            session, user, left = self._sessions[place]
            if left <= 1:
                self._sessions.pop(place)
            else:
                self._sessions[place] = (session, user, left - 1)
        else:
            user = f"user-{int(3000 * rng.random() ** 3):04d}"
            session = f"s-{rng.getrandbits(40):010x}"
            if len(self._sessions) < 60:
                self._sessions.append((session, user, rng.randrange(1, 9)))
        return {
            "trace_id": f"{rng.getrandbits(128) | 1:032x}",
            "project": "default" if rng.random() < 0.9 else "lab",
            "user_id": user if rng.random() < 0.85 else None,
            "session_id": session if rng.random() < 0.7 else None,
            "environment": rng.choices(("production", "staging", "dev"), (80, 15, 5))[0],
            "release": rng.choices(("2026.11.2", "2026.11.1", "2026.10.4"), (50, 35, 15))[0],
        }

    def _id(self) -> str:
        return f"{self._rng.getrandbits(64) | 1:016x}"

    def _chat(self, *, question: int, answer: int) -> tuple[msgspec.Raw, msgspec.Raw]:
        rng = self._rng
        asked = self._texts.text(question)
        if self._n_rare < N_RARE and rng.random() < 0.0002:
            self._n_rare += 1
            asked += " Do you deliver to Zanzibar?"
        request = {
            "model": "x",
            "messages": [
                {"role": "system", "content": rng.choice(self._systems)},
                {"role": "user", "content": asked},
            ],
        }
        reply = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": self._texts.text(answer)}}]
        }
        return msgspec.Raw(_encode(request)), msgspec.Raw(_encode(reply))

    def _call(self, start_ns: int, about: dict[str, Any], *, parent: str | None, **fields: Any) -> Span:
        """Return a call through the gateway, with everything that the gateway knows."""
        rng = self._rng
        provider, model, price_in, price_out, _ = rng.choices(_MODELS, [row[-1] for row in _MODELS])[0]
        given, written = int(rng.lognormvariate(6.3, 0.8)), int(rng.lognormvariate(4.9, 0.8))
        question, answer = self._chat(
            question=int(rng.lognormvariate(5.8, 0.8)), answer=int(rng.lognormvariate(5.9, 0.7))
        )
        cached = rng.random() < 0.07
        failed = not cached and rng.random() < 0.028
        code, message, status = rng.choice(_ERRORS) if failed else (None, None, 200)
        took = int((0.012 if cached else rng.lognormvariate(0.4, 0.7)) * S)
        reading = given // 3 if rng.random() < 0.25 else 0
        cost = Decimal(str(round((given - reading * 0.9) * price_in + written * price_out, 3))).scaleb(-6)
        route = rng.choices(_ROUTES, (40, 20, 15, 15, 10))[0]
        return Span(
            span_id=self._id(),
            parent_id=parent,
            **{
                "name": f"chat {route}",
                "kind": "llm",
                "start_ns": start_ns,
                "end_ns": start_ns + took,
                "status": "error" if failed else "ok",
                "status_message": message,
                "error_code": code,
                "service": "gateway",
                "key_id": f"key_{rng.choice('abcdef')}",
                "route": route,
                "provider": provider,
                "model": model,
                "cache": "hit" if cached else "miss",
                "http_status": status,
                "streamed": rng.random() < 0.6,
                "attempts": 1,
                "usage": None
                if failed
                else Usage(
                    input_uncached=given - reading, input_cache_read=reading or None, output_text=written
                ),
                "cost_usd": None if failed else Decimal(0) if cached else cost,
                "cost_source": "not sent"
                if failed
                else "cache"
                if cached
                else "local"
                if provider == "engine"
                else "genai-prices",
                "ttft_ms": None if failed else min(took / 1e6, rng.lognormvariate(5.6, 0.6)),
                "overhead_ms": rng.uniform(0.3, 1.2),
                "tags": [rng.choice(_TAGS)] if rng.random() < 0.1 else [],
                "attributes": {
                    "gen_ai.operation.name": "chat",
                    "penstock.cache": "hit" if cached else "miss",
                },
                "input": question,
                "output": None if failed else answer,
                **about,
                **fields,
            },
        )

    def _attempt(self, call: Span) -> Span:
        return Span(
            trace_id=call.trace_id,
            span_id=self._id(),
            parent_id=call.span_id,
            name="attempt openai",
            kind="attempt",
            start_ns=call.start_ns,
            end_ns=call.start_ns + 400_000_000,
            status="error",
            error_code="PS-4201",
            service="gateway",
            provider="openai",
            model="gpt-4o",
            project=call.project,
        )

    def _document_answer(self, start_ns: int, about: dict[str, Any]) -> list[Span]:
        """Return an app that looks up passages and asks a model."""
        rng = self._rng
        top = self._call(
            start_ns, about, parent=None, name="chat handbook", route="handbook", provider="apps", model="handbook",
            versions={"app:handbook": "3"}, cost_usd=Decimal(0), cost_source="local", cache=None, attributes={},
        )  # fmt: skip
        app = self._step(
            top.span_id, about, start_ns + 10**6, 900, name="handbook", kind="app", service="apps"
        )
        n_hits = 0 if rng.random() < 0.04 else rng.randrange(1, 6)
        found = {
            "documents": [
                {"id": f"p{rng.randrange(9999)}", "content": self._texts.text(260)} for _ in range(n_hits)
            ]
        }
        search = self._step(
            app.span_id, about, start_ns + 2 * 10**6, 40, name="search", kind="retrieval", service="apps",
            input=msgspec.Raw(_encode(self._texts.text(90))), output=msgspec.Raw(_encode(found)),
            attributes={"retrieval.n_hits": n_hits},
        )  # fmt: skip
        vector = self._step(
            search.span_id, about, start_ns + 3 * 10**6, 9, name="embed minilm", kind="embedding", service="gateway",
            provider="engine", model="minilm", route="minilm", usage=Usage(input_uncached=24), cost_usd=Decimal(0), cost_source="local",
        )  # fmt: skip
        answer = self._call(
            start_ns + 60 * 10**6, about, parent=app.span_id, input=top.input, output=top.output
        )
        return [top, app, search, vector, answer]

    def _agent(self, start_ns: int, about: dict[str, Any], size: int) -> list[Span]:
        """Return an agent as somebody's instrumentation sends it: rounds of a model call and tools."""
        rng = self._rng
        scope = {"scope": "openinference.instrumentation.agents 0.1.30", "service": "shop-agent"}
        marks = {FOREIGN_MARK: 2, "telemetry.sdk.language": "python"}
        root = self._step(
            None, about, start_ns, 0, name="agent support", kind="agent", agent="support", attributes=marks,
            input=msgspec.Raw(_encode(self._texts.text(220))), output=msgspec.Raw(_encode(self._texts.text(300))), **scope,
        )  # fmt: skip
        spans, at = [root], start_ns + 10**6
        parent = root.span_id
        while len(spans) < size:
            call = self._call(at, about, parent=parent, attributes={**marks, "gen_ai.operation.name": "chat"}, agent="support",
                              cost_source="genai-prices", key_id=None, route=None, cache=None, **scope)  # fmt: skip
            spans.append(call)
            at = (call.end_ns or at) + 10**6
            for _ in range(rng.randrange(0, 3)):
                tool = rng.choice(_TOOLS)
                failed = rng.random() < 0.05
                spans.append(
                    self._step(
                        parent,
                        about,
                        at,
                        rng.randrange(5, 900),
                        name=f"execute_tool {tool}",
                        kind="tool",
                        tool=tool,
                        status="error" if failed else "ok",
                        status_message="the shop did not answer" if failed else None,
                        attributes=marks,
                        input=msgspec.Raw(_encode({"order": rng.randrange(10**6)})),
                        output=msgspec.Raw(_encode(self._texts.text(140))),
                        **scope,
                    )
                )
                at += 2 * 10**8
            if size > 60 and rng.random() < 0.05:
                step = self._step(
                    root.span_id,
                    about,
                    at,
                    500,
                    name=f"plan {len(spans)}",
                    kind="chain",
                    attributes=marks,
                    **scope,
                )
                spans.append(step)
                parent = step.span_id
        links = (
            [SpanLink(trace_id=f"{rng.getrandbits(128) | 1:032x}", span_id=self._id())]
            if rng.random() < 0.1
            else []
        )
        spans[0] = msgspec.structs.replace(root, end_ns=at, links=links)
        return spans

    def _step(
        self, parent: str | None, about: dict[str, Any], start_ns: int, took_ms: int, **fields: Any
    ) -> Span:
        events = [SpanEvent(name="retry", time_ns=start_ns)] if self._rng.random() < 0.01 else []
        return Span(
            span_id=self._id(),
            parent_id=parent,
            start_ns=start_ns,
            end_ns=start_ns + took_ms * 10**6,
            events=events,
            **{"status": "ok", **about, **fields},
        )

    def _judge(self, span: Span) -> Span:
        rng = self._rng
        at = (span.end_ns or span.start_ns) + rng.randrange(5, 3000) * S
        if rng.random() < 0.6:
            good = rng.random() < 0.8
            score = SpanScore(
                name="helpful", value=float(good), label="up" if good else "down", source="human", scorer=span.user_id,
                time_ns=at, trace_id=span.trace_id, span_id=span.span_id,
                comment=self._texts.text(80) if rng.random() < 0.2 else None,
            )  # fmt: skip
        else:
            score = SpanScore(
                name="faithfulness", value=round(rng.betavariate(8, 2), 3), source="model", scorer="judge@2",
                time_ns=at, trace_id=span.trace_id, span_id=span.span_id,
            )  # fmt: skip
        return Span(
            trace_id=span.trace_id, span_id=self._id(), parent_id=span.span_id, name=f"score {score.name}", kind="evaluation",
            start_ns=at, end_ns=at, status="ok", project=span.project, scores=[score],
        )  # fmt: skip


def start_times(rng: random.Random, n_traces: int, until_ns: int, days: float) -> list[int]:
    """Return sorted starts over the days before `until_ns`, more by day than by night."""
    found = []
    while len(found) < n_traces:
        back_ns = int(rng.random() * days * DAY_NS)
        hour = ((until_ns - back_ns) % DAY_NS) / DAY_NS * 24
        if rng.random() < 0.55 + 0.45 * math.sin((hour - 8) / 24 * 2 * math.pi):
            found.append(until_ns - back_ns - 60 * S)
    return sorted(found)


def make_batches(n_spans: int, *, until_ns: int, days: float, seed: int) -> Iterator[list[Span]]:
    """Yield the spans in batches as they would arrive, some of them late."""
    rng = random.Random(seed)
    filler = Filler(seed)
    big = [size for size in BIG_TRACES if n_spans >= 10 * size]
    starts = start_times(rng, max(1, round((n_spans - sum(big)) / 4.75)), until_ns, days)
    big_at = {int(len(starts) * (0.7 + 0.2 * place)): size for place, size in enumerate(big)}
    waiting: list[Span] = []
    late: list[Span] = []
    for number, start_ns in enumerate(starts):
        waiting += filler.trace(start_ns)
        if number in big_at:
            waiting += filler.trace(start_ns, size=big_at[number])
        if len(waiting) >= ROUND_SPANS:
            held = [span for span in waiting if span.parent_id is not None and rng.random() < 0.01]
            names = {span.span_id for span in held}
            yield [*late, *(span for span in waiting if span.span_id not in names)]
            late, waiting = [*held, *filler.take_scores()], []
    yield [*late, *waiting, *filler.take_scores()]


def fill(
    path: Path, n_spans: int, *, until_ns: int, days: float = 30, seed: int = 1, says: bool = False
) -> int:
    """Append about `n_spans` spans to the store at `path`; return how many."""
    store = DuckDBSpanStore(path)
    n_done, begun = 0, time.perf_counter()
    try:
        for batch in make_batches(n_spans, until_ns=until_ns, days=days, seed=seed):
            for first in range(0, len(batch), ROUND_SPANS):
                n_done += store.append(batch[first : first + ROUND_SPANS])
            if says:
                print(f"\r{n_done:,} spans, {time.perf_counter() - begun:.0f} s", end="", flush=True)
    finally:
        store.close()
    if says:
        print(f"\n{path}: {path.stat().st_size / 1e6:.0f} MB")
    return n_done


def main() -> None:
    """Fill the home that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home", type=Path)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--until", type=datetime.fromisoformat, default=None, help="UTC; now unless given")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    until = options.until.replace(tzinfo=UTC).timestamp() if options.until else time.time()
    path = options.home if options.home.suffix == ".duckdb" else Home(root=options.home).span_db
    fill(path, options.spans, until_ns=int(until) * S, days=options.days, seed=options.seed, says=True)


if __name__ == "__main__":
    main()
