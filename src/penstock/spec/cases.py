"""Cases and outputs: what is asked of a target in an evaluation, and what it answered. Frozen, no behaviour."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.usage import Usage


class Passage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of text that an answer may rest on, as it was retrieved or as a dataset gives it."""

    text: str
    id: str | None = None
    document: str | None = None
    score: float | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to ask, with what is known about a good answer."""

    id: str
    """Unique within its dataset version and stable over versions; pairs are made by it."""
    inputs: dict[str, Any] = {}
    """Variables by name: what a prompt, an app step or a function is given. `input` is the name of a single text."""
    messages: list[dict[str, Any]] = []
    """Chat messages in OpenAI's shape, for targets that take a conversation; empty: the text of `input` as one user turn."""
    expected: Any = None
    """Reference answer: a text, a list of acceptable texts, a label, a number or JSON; None when nobody knows."""
    passages: list[Passage] = []
    """Reference passages: what a good answer rests on."""
    relevant: list[str] = []
    """Ids of passages or documents that retrieval should find."""
    group: str | None = None
    """Cases of one group are not independent of each other (one document, user, conversation): intervals and splits
    keep groups together."""
    split: str | None = None
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    """Anything else; slices are made by its keys, by `split` and by tags."""


OutputStatus = Literal["ok", "refused", "error", "skipped"]
"""`refused`: the provider or a filter declined to answer at all (a polite refusal in words is `ok`, and a scorer's matter).
`skipped`: not asked, for example because the budget was used up."""


class OutputError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why there is no answer."""

    code: str
    """A Penstock error code, or the provider's own."""
    message: str
    status: int | None = None
    """HTTP status, where there was one."""
    is_transient: bool = False
    """Whether asking again may help; only such outputs are asked again by `resume`."""


class TokenChance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One token of an answer with the log probability the model gave it, and those of its rivals."""

    token: str
    logprob: float
    rivals: dict[str, float] = {}


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a target answered to a case, once. Unknown is None."""

    case_id: str
    repeat: int = 0
    """0, 1, 2 … of the repeats of one case."""
    status: OutputStatus = "ok"
    text: str | None = None
    data: Any = None
    """What a function or HTTP endpoint returned when that is not text; the reply's JSON where an output schema was asked."""
    tool_calls: list[dict[str, Any]] = []
    """In OpenAI's shape."""
    passages: list[Passage] = []
    """What was retrieved, in rank order; empty when the target retrieves nothing or does not say."""
    citations: list[dict[str, Any]] = []
    logprobs: list[TokenChance] = []
    finish_reason: str | None = None
    error: OutputError | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    """What it cost this time; 0 when it was kept from before."""
    original_cost_usd: Decimal | None = None
    """What the answer cost when it was made, where that was before; figures of cost per case are made of it."""
    latency_ms: float | None = None
    ttft_ms: float | None = None
    model: str | None = None
    """What the reply calls the model."""
    versions: dict[str, str] = {}
    """Asset to stamp of everything that made it, as spans carry them."""
    trace_id: str | None = None
    is_cached: bool = False
    """Whether an earlier answer to the same request, of the same repeat, was taken."""
    started_ns: int | None = None
