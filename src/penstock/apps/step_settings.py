"""What can be said of an app's single steps: which model, how long, how often again, and what follows from a failure.

Frozen data. A step that is not named in the app's `steps` does not run, whatever is said of it here.
"""

from typing import Literal

import msgspec

OnFailure = Literal["go-on", "fail"]


class ModelStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A step that asks a model beside the one that answers."""

    model: str | None = None
    """The route it asks; None asks the app's own."""
    fallback: str | None = None
    """The route asked where the first one has failed each time."""
    timeout_s: float = 10.0
    """Of one attempt."""
    retries: int = 0
    """Attempts after the first; the gateway has its own besides."""
    max_tokens: int = 96
    """Of its reply."""
    on_failure: OnFailure = "go-on"
    """`go-on` leaves things as they were before the step and notes it; `fail` ends the run."""


class RewriteStep(ModelStep, frozen=True, kw_only=True, omit_defaults=True):
    """Makes one question that stands alone of a conversation. Does nothing for a first question."""

    turns: int = 6
    """Earlier messages that are shown."""


class ExpandStep(ModelStep, frozen=True, kw_only=True, omit_defaults=True):
    """Asks for other wordings of the question; what each of them finds is mixed by rank."""

    variants: int = 3
    max_tokens: int = 160


class FilterStep(ModelStep, frozen=True, kw_only=True, omit_defaults=True):
    """Throws out passages that do not bear on the question."""

    kind: Literal["model", "rerank"] = "model"
    """By a chat model's verdict, or by the score of a route that reranks."""
    min_score: float = 0.0
    """For `rerank`: passages scored below are thrown out."""
    max_tokens: int = 64


class CheckStep(ModelStep, frozen=True, kw_only=True, omit_defaults=True):
    """Measures how much of the answer the passages bear out."""

    kind: Literal["words", "citations", "model"] = "words"
    """By words shared with what was shown (asks nobody), likewise with what is cited, numbers and quotes included, or by
    a chat model's verdict on each sentence."""
    min_grounded: float = 0.5
    """Least share of the answer's sentences that must be borne out."""
    then: Literal["mark", "abstain"] = "mark"
    """What happens below: the reply says so, or the app abstains. To abstain, an answer is held back until it is
    checked, so it does not stream."""
