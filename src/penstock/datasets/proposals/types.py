"""The nouns of proposals. Frozen, no behaviour."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from penstock.spec.datasets import DatasetFormat

ProposalKind = Literal["paraphrase", "harder", "adversarial", "translate", "questions"]
"""`questions` come from passages; the others each from one row of the dataset."""
ProposalState = Literal["pending", "accepted", "added", "rejected"]
"""`accepted` waits for being added to the dataset, `added` is in a version."""
MAX_PROPOSALS = 2000


class ProposalRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is asked for; also the spec of the job."""

    dataset: str
    """`NAME` or `NAME@…`: whose rows are the seeds, and to which the accepted ones are added."""
    kind: ProposalKind
    model: str
    """A route of the gateway."""
    n: int = 20
    """Proposals wanted at most."""
    per_call: int = 4
    """Asked for at once."""
    language: str | None = None
    """Of `translate`."""
    knowledge: str | None = None
    """Of `questions`: the knowledge base whose passages are asked about; None: the passages of the dataset's own rows."""
    where: str | None = None
    """Which rows are seeds."""
    seed: int = 0
    temperature: float | None = None
    budget_usd: Decimal | None = None
    """Never passed: a call whose estimate would pass it is not made."""
    max_calls: int | None = None
    actor: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request would do, before anything is asked of a model."""

    ref: str
    """Pinned."""
    n_seeds: int
    """Rows or passages to ask about."""
    n_calls: int
    n_proposals: int
    """At most."""
    input_tokens: int
    output_tokens: int
    """Estimated, a quarter of the bytes of the text."""
    cost_usd: Decimal | None
    """None where nobody knows the price."""
    prompt_digest: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call came to, as the job's journal keeps it."""

    status: Literal["ok", "refused", "garbage", "timeout", "error"]
    reason: str = ""
    items: list[dict[str, Any]] = []
    """What was read from the reply, in order."""
    left_out: dict[str, int] = {}
    """Reason to number of items of the reply that could not be read."""
    cost_usd: str | None = None
    trace_id: str | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row that a model proposed."""

    id: str
    dataset: str
    """Name, without a version."""
    ref: str
    """The version whose rows were the seeds."""
    format: DatasetFormat
    batch: str
    """The job that asked."""
    kind: ProposalKind
    state: ProposalState
    fields: dict[str, Any]
    """As they are now: edited when somebody edited them."""
    proposed: dict[str, Any] | None = None
    """As the model said them, where they were edited."""
    split: str | None = None
    group: str | None = None
    tags: list[str] = []
    detail: dict[str, Any] = {}
    """Provenance: model, kind, prompt digest, seed row or passages, seed, cost, trace id."""
    seed_text: str = ""
    """What it was made from, for the reviewer."""
    created_ns: int
    decided_ns: int | None = None
    decided_by: str | None = None
    reason: str | None = None
    """Why it was rejected."""
    version: str | None = None
    """The version that it was added in."""


class ProposalPage(msgspec.Struct, frozen=True, kw_only=True):
    """Proposals, oldest first."""

    proposals: list[Proposal]
    counts: dict[str, int]
    """Of each state, of the dataset or all."""
    next_cursor: str | None = None


class ProposalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to: the result of the job."""

    n_calls: int
    n_proposed: int
    n_duplicates: int
    """Proposals that were nearly a row or proposal that is there; they are not kept."""
    calls: dict[str, int]
    """Status of calls to their number."""
    left_out: dict[str, int]
    """Why pieces of replies could not be read, to their number."""
    cost_usd: Decimal | None
    """None where a price is unknown."""
    stopped: str | None
    """Why it ended before everything was asked: budget, calls; None when it did not."""
