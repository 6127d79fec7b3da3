"""Judges a share of an app's answers as they come: are the passages relevant, does the answer rest on them, does it answer.

Which answers are taken follows from their trace id, so that starting again takes the same ones. A day's budget is never begun to be
passed: what the dearest answer so far cost to judge must still fit. Scores go to the answer's trace; they are there for
dashboards and alerts like any other. One thread runs it.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns as wall_clock
from penstock.base.errors import InvalidInput, PenstockError
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.errors import UnknownWatch
from penstock.knowledge.quality.ports import AnsweredTrace, Answers
from penstock.knowledge.quality.report_types import TriadSettings, TriadState

ROUND_S = 30.0
SETTLE_NS = 60 * 10**9
"""An answer is judged this long after it began: its spans come in by then."""
MAX_ANSWERS = 200
JUDGES = ("context_relevance", "groundedness", "answer_relevance")
_log = logging.getLogger(__name__)


class TriadService:
    """Watches over apps. May be called from any thread; `run` is for one."""

    def __init__(self, engine: Engine, answers: Answers, *, clock: Callable[[], int] = wall_clock) -> None:
        self._engine = engine
        self._answers = answers
        self._clock = clock
        self._lock = threading.Lock()

    def list_watches(self) -> list[TriadState]:
        """Return all watches by app."""
        with self._engine.connect() as connection:
            return queries.list_watches(connection)

    def get(self, app: str) -> TriadState:
        """Return the watch over an app; raise `UnknownWatch`."""
        found = next((each for each in self.list_watches() if each.settings.app == app), None)
        if found is None:
            raise UnknownWatch(
                f"No answers of {app!r} are judged.",
                hint=f"penstock knowledge watch {app} --judge ROUTE begins it.",
            )
        return found

    def put(self, settings: TriadSettings, *, actor: str) -> TriadState:
        """Create or change the watch over an app; answers from now on are judged. Raises `InvalidInput`."""
        check_settings(settings)
        now = self._clock()
        with self._lock:
            known = next((each for each in self.list_watches() if each.settings.app == settings.app), None)
            state = (
                TriadState(settings=settings, cursor_ns=now, day=_day(now), updated_ns=now, actor=actor)
                if known is None
                else msgspec.structs.replace(
                    known,
                    settings=settings,
                    cursor_ns=known.cursor_ns if known.settings.is_on else now,
                    dearest_usd=known.dearest_usd if known.settings.judge == settings.judge else Decimal(0),
                    updated_ns=now,
                    actor=actor,
                    last_error=None,
                )
            )
            self._save(state)
        return state

    def delete(self, app: str) -> None:
        """End the watch over an app; scores stay. Raises `UnknownWatch`."""
        with self._lock, self._engine.begin() as connection:
            if not queries.delete_watch(connection, app):
                raise UnknownWatch(f"No answers of {app!r} are judged.")

    def run(self, stop: threading.Event) -> None:
        """Judge what comes until `stop` is set."""
        while not stop.is_set():
            try:
                self.judge_new(stop)
            except (
                Exception
            ):  # a round that fails must not end the thread: the log says why, the next one tries again
                _log.exception("answers were not judged")
            stop.wait(ROUND_S)

    def judge_new(self, stop: threading.Event | None = None) -> int:
        """Judge what came since the last time and return how many answers were."""
        n_judged = 0
        for state in self.list_watches():
            if state.settings.is_on:
                n_judged += self._follow(state, stop or threading.Event())
        return n_judged

    def _follow(self, state: TriadState, stop: threading.Event) -> int:
        settings, now = state.settings, self._clock()
        if state.day != _day(now):
            state = msgspec.structs.replace(
                state,
                day=_day(now),
                n_seen=0,
                n_unreadable=0,
                n_judged=0,
                n_failed=0,
                spent_usd=Decimal(0),
                # a day on which one answer alone would have passed the budget must not be followed by idle ones for ever
                dearest_usd=state.dearest_usd if state.n_judged else state.dearest_usd / 2,
                n_unpriced=0,
            )
        try:
            read = self._answers.read_answers(
                settings.app, since_ns=state.cursor_ns, until_ns=now - SETTLE_NS, limit=MAX_ANSWERS
            )
        except PenstockError as error:
            self._keep(msgspec.structs.replace(state, last_error=str(error), updated_ns=now))
            return 0
        n_judged = 0
        for answer in read.answers:
            if stop.is_set():
                return n_judged
            state = msgspec.structs.replace(
                state, cursor_ns=answer.time_ns + 1, n_seen=state.n_seen + 1, updated_ns=self._clock()
            )
            if is_taken(answer.trace_id, settings.share) and self._fits(state):
                state = self._judge(state, answer)
                n_judged += 1
            if not self._keep(state):
                return n_judged
        if read.until_ns > state.cursor_ns or read.n_unreadable:
            self._keep(
                msgspec.structs.replace(
                    state,
                    cursor_ns=max(state.cursor_ns, read.until_ns),
                    n_unreadable=state.n_unreadable + read.n_unreadable,
                    updated_ns=self._clock(),
                )
            )
        return n_judged

    def _fits(self, state: TriadState) -> bool:
        settings = state.settings
        if state.n_judged >= settings.max_per_day:
            return False
        budget = settings.budget_usd_per_day
        return budget is None or state.spent_usd + state.dearest_usd < budget

    def _judge(self, state: TriadState, answer: AnsweredTrace) -> TriadState:
        settings = state.settings
        try:
            scores = self._answers.judge(settings, answer)
        except PenstockError as error:
            return msgspec.structs.replace(
                state, n_judged=state.n_judged + 1, n_failed=state.n_failed + 1, last_error=str(error)
            )
        errors = [score for score in scores if score.status == "error"]
        known = [score.cost_usd for score in scores if score.cost_usd is not None]
        cost = sum(known, Decimal(0))
        state = msgspec.structs.replace(  # spent, whether or not the scores can be kept
            state,
            n_judged=state.n_judged + 1,
            n_failed=state.n_failed + bool(errors),
            spent_usd=state.spent_usd + cost,
            dearest_usd=max(cost, state.dearest_usd),
            n_unpriced=state.n_unpriced + len(scores) - len(known),
            last_error=errors[0].reason if errors else None,
        )
        try:
            self._answers.keep(answer, scores)
        except PenstockError as error:
            return msgspec.structs.replace(
                state, n_failed=state.n_failed + (not errors), last_error=f"scores were not kept: {error}"
            )
        return state

    def _keep(self, state: TriadState) -> bool:
        """Keep how far the watch is, unless somebody changed or ended it meanwhile."""
        with self._lock:
            now = next(
                (each for each in self.list_watches() if each.settings.app == state.settings.app), None
            )
            if now is None or now.settings != state.settings:
                return False
            self._save(state)
            return True

    def _save(self, state: TriadState) -> None:
        with self._engine.begin() as connection:
            queries.save_watch(connection, state)


def is_taken(trace_id: str, share: float) -> bool:
    """Whether a trace is among the share that is judged: by its id, which is random."""
    try:
        return int(trace_id[-13:], 16) < share * 16**13
    except ValueError:
        return False


def check_settings(settings: TriadSettings) -> None:
    """Raise `InvalidInput` for a watch that cannot be."""
    if not settings.app or not settings.judge:
        raise InvalidInput("A watch names an app and the route that judges.", where="app")
    if settings.app == settings.judge:
        raise InvalidInput("An app does not judge its own answers.", where="judge")
    if not 0.0 < settings.share <= 1.0:
        raise InvalidInput(f"share is {settings.share:g}; it lies above 0 and is at most 1.", where="share")
    unknown = [name for name in settings.judges if name not in JUDGES]
    if unknown or not settings.judges:
        raise InvalidInput(f"Judges are {', '.join(JUDGES)}; {unknown or 'none'} was named.", where="judges")
    if settings.budget_usd_per_day is not None and settings.budget_usd_per_day <= 0:
        raise InvalidInput("A budget is above 0.", where="budget_usd_per_day")
    if settings.max_per_day < 1:
        raise InvalidInput("At least 1 answer a day is judged.", where="max_per_day")


def _day(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, tz=UTC).date().isoformat()
