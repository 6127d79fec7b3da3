"""A model that answers what the test says, and remembers what it was asked."""

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from penstock.evals.scorers.types import Scorer, ScorerTools
from penstock.spec.cases import Case, Output, OutputError
from penstock.spec.scores import Score

Reply = str | dict[str, Any] | Output
CENT = Decimal("0.01")


class FakeModel:
    """Gives its replies in order, the last one again and again; or what a function of the user's message says."""

    def __init__(self, *replies: Reply, by: Callable[[str], Reply] | None = None) -> None:
        self.replies, self.by = list(replies), by
        self.calls: list[dict[str, Any]] = []

    async def __call__(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        *,
        purpose: str,
        repeat: int = 0,
        trace_parent: str | None = None,
    ) -> Output:
        self.calls.append(
            {"model": model, "messages": list(messages), "parameters": dict(parameters), "purpose": purpose}
            | {"repeat": repeat}
        )
        if self.by is not None:
            reply = self.by(str(messages[1]["content"]))
        else:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Output):
            return reply
        text = reply if isinstance(reply, str) else json.dumps(reply)
        return Output(case_id="judge", text=text, cost_usd=CENT, trace_id="a" * 32, model="judge-2026")

    @property
    def tools(self) -> ScorerTools:
        return ScorerTools(ask=self)

    @property
    def user(self) -> str:
        """What the last call's user said."""
        return str(self.calls[-1]["messages"][1]["content"])


def fail(status: int | None = None, *, message: str = "no", is_transient: bool = False) -> Output:
    error = OutputError(code="PS-4504", message=message, status=status, is_transient=is_transient)
    return Output(case_id="judge", status="error", error=error)


async def judge_text(
    scorer: Scorer, text: str, tools: ScorerTools, *, case: Case | None = None, **output: Any
) -> Score:
    """Return the score of an answer to `How long do adults sleep?`."""
    asked = case or Case(id="c1", inputs={"input": "How long do adults sleep?"}, expected="7 to 9 hours")
    return (await scorer.score(asked, [Output(case_id=asked.id, text=text, **output)], tools))[0]
