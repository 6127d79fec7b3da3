"""What is asked for, as command line, REST and jobs say it."""

from typing import Any

import msgspec

from penstock.spec.evaluations import ScorerSpec
from penstock.spec.prompts import PromptContent
from penstock.spec.tuning import DistillPart, FilePrecision
from penstock.tuning.compress.shrink import Shrinking
from penstock.tuning.compress.types import MeasuredPart, SpeedPlan

DEFAULT_SCORERS = (ScorerSpec(scorer="exact"), ScorerSpec(scorer="token_f1"))


class QuantiseRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Other precisions of a version."""

    model: str
    precisions: tuple[FilePrecision, ...] = ("q8_0", "q4_0")
    alias: str | None = None
    """Moved to the child, where one precision is named. `prod` is refused: it moves by a gate."""
    note: str = ""


class ShrinkRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A smaller model with parts of a version left out."""

    model: str
    name: str
    """`model:NAME` that it becomes a version of."""
    how: Shrinking
    precision: FilePrecision = "f16"
    alias: str | None = None
    note: str = ""


class MeasureRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is to be measured of which versions."""

    models: tuple[str, ...]
    against: str | None = None
    """The version that the others are held against; None: the parent of the only one, else the first."""
    parts: tuple[MeasuredPart, ...] = ()
    """Empty: size and speed, and what texts and cases are named for."""
    texts: str | None = None
    """`dataset:NAME@…`, a file of conversations or plain text, or `handbook`; None takes the cases with their references."""
    cases: str | None = None
    """`dataset:NAME@…`, a file, or `handbook` for the held-out questions that are shipped."""
    prompt: str | None = None
    """`prompt:NAME@…` that cases (and rows of texts that are cases) are asked with."""
    prompt_content: PromptContent | None = None
    """Instead: a prompt that is not saved."""
    scorers: tuple[ScorerSpec, ...] = DEFAULT_SCORERS
    parameters: dict[str, Any] = {}
    """`max_tokens` of a reply; sampling is the version's own."""
    where: dict[str, Any] = {}
    limit: int | None = None
    seed: int = 0
    speed: SpeedPlan = SpeedPlan()
    threads: int | None = None
    """None: all processors of this machine, at most 8."""
    window: int = 512


class DistillRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is to be asked of which teacher."""

    dataset: str
    """`dataset:NAME[@VERSION]` with the prompts; answers in it are not looked at."""
    name: str
    """Of the dataset that is made."""
    part: DistillPart
    split: str | None = None
    """Only these rows are asked."""
    keep_split: str | None = None
    """Rows of this split keep the answer they have: what is held out is not the teacher's."""
    template: str | None = None
    system: str | None = None
    max_rows: int | None = None
    seed: int = 0
    max_cost_usd: float | None = None
    license: str | None = None
    """Of what is made; None: that of prompts and teacher together, unknown where one of them is."""
