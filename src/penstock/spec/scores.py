"""A score: one judgement of one output. Undefined is not zero, and an error is not a fail."""

from typing import Any, Literal

import msgspec

ScoreStatus = Literal["scored", "undefined", "error"]


class Score(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`value` is set exactly when `status` is `scored`."""

    name: str
    value: float | None
    status: ScoreStatus
    scorer: str
    """Name and version of the scorer, such as `token_f1@1`."""
    evidence: dict[str, Any] = {}
