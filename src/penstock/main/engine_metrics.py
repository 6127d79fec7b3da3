"""What engine processes count, collected: for Prometheus, and beside each deployment."""

import http.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from penstock.base.errors import PenstockError
from penstock.main.engine_calls import EngineCalls
from penstock.main.engine_files import EngineFile, list_engines
from penstock.spec.home import Home
from penstock.telemetry.exposition import MetricFamily

TIMEOUT_S = 2.0
"""An engine that does not tell in this time is down as far as its numbers go."""
_FAMILIES: tuple[tuple[str, str, str, str], ...] = (
    ("requests", "counter", "penstock_engine_requests_total", "Replies since the process started."),
    ("failures", "counter", "penstock_engine_failures_total", "Replies that broke, or whose caller left."),
    ("prompt_tokens", "counter", "penstock_engine_prompt_tokens_total", "Tokens of prompts."),
    ("cached_tokens", "counter", "penstock_engine_cached_tokens_total", "Of these, not worked on again."),
    ("completion_tokens", "counter", "penstock_engine_completion_tokens_total", "Tokens generated."),
    ("busy_s", "counter", "penstock_engine_busy_seconds_total", "Time that replies took, added up."),
    ("slots", "gauge", "penstock_engine_slots", "Calls that can be worked on at once."),
    ("busy", "gauge", "penstock_engine_slots_busy", "Calls being worked on."),
    ("waiting", "gauge", "penstock_engine_waiting", "Calls that wait for a slot."),
)


class EngineNumbers:
    """Asks the engines of one home. Safe from several threads."""

    def __init__(self, home: Home, find_key: Callable[[], str]) -> None:
        self._home = home
        self._find_key = find_key

    def ask(self, url: str) -> Mapping[str, Any] | None:
        """Return what the engine at `url` hosts and has done; None when it does not tell."""
        try:
            reply = EngineCalls(url, self._find_key(), timeout_s=TIMEOUT_S).get("/engine")
        except PenstockError:
            return None
        return reply.body if reply.status == http.client.OK and isinstance(reply.body, dict) else None

    def collect(self) -> Sequence[MetricFamily]:
        """Return the families of all engine processes of our own."""
        told = [
            (file, self.ask(f"http://127.0.0.1:{file.port}/v1"))
            for file in list_engines(self._home)
            if not file.command
        ]
        return [_up(told), *_counts(told)]


def _up(told: Sequence[tuple[EngineFile, Mapping[str, Any] | None]]) -> MetricFamily:
    return MetricFamily(
        name="penstock_engine_up",
        kind="gauge",
        text="1 for an engine process that tells its numbers.",
        samples=[(_of(file), float(state is not None)) for file, state in told],
    )


def _counts(told: Sequence[tuple[EngineFile, Mapping[str, Any] | None]]) -> Iterator[MetricFamily]:
    for member, kind, name, text in _FAMILIES:
        yield MetricFamily(
            name=name,
            kind=kind,  # type: ignore[arg-type]  # one of the two
            text=text,
            samples=[
                ({**_of(file), "model": str(model["name"])}, float(model[member]))
                for file, state in told
                for model in (state or {}).get("models", ())
            ],
        )


def _of(file: EngineFile) -> dict[str, str]:
    return {"engine": file.child, "deployment": file.seat.deployment if file.seat is not None else ""}
