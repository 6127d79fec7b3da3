"""Pages, curves and plans of runs, as REST, command line and console show them. Frozen, no behaviour."""

from typing import Any, Literal

import msgspec

from penstock.spec.tuning import RunEvent, RunRecord

TimeBasis = Literal["measured", "earlier", "estimated"]


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, newest first."""

    rows: list[RunRecord]
    next_cursor: str | None = None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in the order they were written."""

    rows: list[RunEvent]
    next_after: int
    """What `after` takes to go on behind these; grows with the file, so it can be asked again and again."""
    is_final: bool = False
    """Whether the run has ended and nothing lies behind these."""


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One value of a curve."""

    step: int
    value: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over the steps of a run, such as `step.loss` or `eval.loss`."""

    name: str
    points: list[CurvePoint]
    n_points: int
    """Before thinning."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A reply to a held-out prompt, at one step."""

    step: int
    prompt: str
    reference: str | None
    reply: str
    row: int | None = None


class MemoryPart(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the memory estimate."""

    name: str
    size_bytes: int
    why: str = ""


class PlanFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan refuses or warns of, with the cheapest change that helps."""

    code: str
    severity: Literal["refuse", "warn"]
    message: str
    hint: str | None = None
    rows: list[int] = []
    """Numbers of the first rows that it is about, from 1."""
    n_rows: int = 0
    source: str | None = None
    """The dataset that they are of."""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will take. What is not known is None."""

    recipe: dict[str, Any]
    """With every default for the method filled in."""
    n_parameters: int | None
    n_trained: int | None
    """Parameters that move."""
    n_rows: int | None
    n_heldout: int | None
    n_tokens: int | None
    """Of one epoch."""
    n_steps: int | None
    memory: list[MemoryPart]
    memory_bytes: int | None
    disk_bytes: int | None
    tokens_per_s: float | None
    seconds: float | None
    time_basis: TimeBasis | None
    """measured: a few steps of this very run on this machine. earlier: an earlier run of this base and method here.
    estimated: from the machine's arithmetic alone."""
    cost_usd: float | None
    """Of a teacher's replies; None where there is none or its price is unknown."""
    machine_usd: float | None
    device: str | None
    findings: list[PlanFinding]
    preflight: dict[str, Any] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether anything in it forbids the run."""
        return any(finding.severity == "refuse" for finding in self.findings)


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two or more runs side by side."""

    runs: list[RunRecord]
    differences: dict[str, list[Any]]
    """Keys of the recipe (`train.lr`) whose values differ, one value a run."""
    figures: dict[str, list[float | None]]
    """Last and best figures, one a run."""
    curves: list[dict[str, Curve]]
    """One mapping a run, by the curve's name."""
    same_data: bool
    """Whether all were frozen to the same held-out rows, so that their held-out figures can be compared."""
