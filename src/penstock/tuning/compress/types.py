"""Nouns of measuring versions side by side: what is to be done, what came out of it, what is kept. No behaviour.

Raw facts come from a process of their own and hold a value a row, so that figures with intervals, and differences between two
versions over the same rows, can be made from them at any time. Unknown is None.
"""

from typing import Any, Literal

import msgspec

from penstock.spec.evaluations import Comparison, Estimate
from penstock.spec.messages import Message

MeasuredPart = Literal["size", "speed", "texts", "tasks"]
ALL_PARTS: tuple[MeasuredPart, ...] = ("size", "speed", "texts", "tasks")


class TextItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One held-out text: a conversation whose replies are looked at, or a plain text that is looked at whole."""

    row: str
    group: str | None = None
    messages: tuple[Message, ...] = ()
    text: str | None = None


class TaskItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question of a task as it is asked."""

    case: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None


class SpeedPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How speed is measured: versions take turns, round by round, so that what else a machine does meets all alike."""

    rounds: int = 8
    """Under six, not even versions that differ in every round are told apart (sign test, two-sided, 5 %)."""
    streams: tuple[int, ...] = (1, 4)
    prompt_tokens: int = 256
    reply_tokens: int = 64


class MeasureWork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the measuring process is given."""

    versions: tuple[str, ...]
    """References; the first is the one that the others are held against."""
    parts: tuple[MeasuredPart, ...] = ALL_PARTS
    texts: tuple[TextItem, ...] = ()
    tasks: tuple[TaskItem, ...] = ()
    speed: SpeedPlan = SpeedPlan()
    threads: int = 1
    window: int = 512
    """Tokens that are read at once where a text is longer; every second half counts."""


class SizeFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version weighs."""

    file_bytes: int
    n_parameters: int | None = None
    bits_per_parameter: float | None = None
    load_s: float | None = None
    """Until it could be asked; the file may have been read from the disk, or have been in memory already."""
    resident_bytes: int | None = None
    """By how much the process grew when it loaded the model and answered once."""


class SpeedRound(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One round at one number of streams."""

    streams: int
    prompt_tokens: int
    prompt_s: float
    reply_tokens: int
    reply_s: float
    reply_processor_s: float | None = None
    """Processor time of the whole process meanwhile: what else a machine does hardly changes it."""


class RowChances(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How likely a version holds one row: sums over the tokens that count."""

    row: str
    n_tokens: int
    n_bytes: int
    nll: float
    """Nats."""
    group: str | None = None
    kl: float | None = None
    """Sum of the divergences of this version from the first one, over the whole vocabulary; None where tokens differ."""
    n_same_top: int | None = None
    """Tokens before which both hold the same next one likeliest."""


class TextFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How likely a version holds the texts."""

    rows: tuple[RowChances, ...]
    renderer_digest: str
    window: int
    anchor: float | None = None
    """Largest difference of a log-probability made here from the one that the serving engine tells, over a few places."""
    n_left_out: int = 0
    """Rows with nothing to look at."""
    n_vocabulary: int | None = None
    """Tokens that it chooses from: a perplexity above that is worse than blind guessing."""


class TaskReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a version answered to one case."""

    case: str
    text: str
    finish: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    """Where it could not be asked, such as a prompt over its context."""


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that one process found out about one version."""

    version: str
    digest: str
    size: SizeFacts | None = None
    speed: tuple[SpeedRound, ...] = ()
    texts: TextFacts | None = None
    replies: tuple[TaskReply, ...] = ()


class ModelMeasurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of what was measured of one version, as it is kept. Figures have their intervals."""

    id: str
    version: str
    """`model:NAME@NUMBER`"""
    digest: str
    part: MeasuredPart
    session: str
    """Versions measured together, in turns, on one machine at one time; only these are compared in speed."""
    figures: tuple[Estimate, ...]
    made_ns: int
    actor: str = ""
    against: str | None = None
    """Digest of the version that it was held against; None for that one itself."""
    differences: tuple[Comparison, ...] = ()
    """This version beside that one, paired by row, case or round."""
    source: str | None = None
    """The texts or cases, by name."""
    source_digest: str | None = None
    """Over everything that was asked, so that the same name with other rows is another thing."""
    facts: dict[str, Any] = {}
    """Raw: `SizeFacts`, rounds, `TextFacts`, or values by scorer and case."""
    machine: dict[str, Any] = {}


class ComparedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version in a comparison: everything newest that is known of it, and how it stands beside the first."""

    version: str
    digest: str
    precision: str | None = None
    n_parameters: int | None = None
    parents: tuple[str, ...] = ()
    figures: tuple[Estimate, ...] = ()
    differences: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be compared, and why."""


class ModelComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Versions beside each other; the first is the baseline."""

    models: tuple[ComparedModel, ...]
    verdicts: tuple[str, ...]
    """A sentence for each of the others."""
