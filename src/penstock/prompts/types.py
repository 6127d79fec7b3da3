"""The nouns of prompts as REST, command line and console show them, and the ports that `main` fills."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from penstock.base.digest import short_digest
from penstock.spec.prompts import PromptContent
from penstock.templating.render import Rendered

KIND: Literal["prompt"] = "prompt"


@dataclass(frozen=True, kw_only=True)
class PromptVersion:
    """One version of a prompt."""

    name: str
    number: int
    digest: str
    content: PromptContent
    note: str
    created_ns: int
    aliases: tuple[str, ...] = ()
    """Those that stand at it now."""
    parents: tuple[str, ...] = ()
    """Digests of the versions it rests on, such as the dataset of its examples."""
    is_new: bool = False
    """Whether it was made just now."""

    @property
    def label(self) -> str:
        """`prompt:NAME@NUMBER`: what `model` may say."""
        return f"{KIND}:{self.name}@{self.number}"

    @property
    def stamp(self) -> str:
        """`NUMBER@sha256:…`, as spans carry it."""
        return f"{self.number}@sha256:{short_digest(self.digest)}"


@dataclass(frozen=True, kw_only=True)
class PromptSummary:
    """One prompt in a list."""

    name: str
    n_versions: int
    latest: int
    aliases: Mapping[str, int]
    description: str
    model: str | None
    variables: tuple[str, ...]
    created_ns: int
    changed_ns: int
    """When a version was made or an alias moved last."""


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """How long what is sent is."""

    n_tokens: int
    is_estimate: bool
    how: str
    """What counted: a tokenizer's name, or the rule of the estimate."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a prompt makes of some variables."""

    rendered: Rendered
    tokens: TokenCount
    version: str | None = None
    """`prompt:NAME@3`; None for content that is not saved."""


UseKind = Literal["route", "prompt", "version"]


@dataclass(frozen=True, kw_only=True)
class PromptUse:
    """A place where a prompt is used."""

    kind: UseKind
    """`version`: something registered that was made from it."""
    name: str
    reference: str
    """How it names the prompt: `prompt:triage@prod`."""


@dataclass(frozen=True, kw_only=True)
class LastCall:
    """The newest call that a prompt shaped."""

    time_ns: int
    trace_id: str


@dataclass(frozen=True, kw_only=True)
class PromptUses:
    """Where a prompt is used, and when it was last."""

    uses: tuple[PromptUse, ...] = ()
    last_call: LastCall | None = None


class Rows(Protocol):
    """Reads rows that examples are picked from; filled over datasets."""

    def pin(self, reference: str) -> str:
        """Return `dataset:NAME@NUMBER` for a reference; raise `NotFound`."""
        ...

    def read(self, reference: str, *, limit: int, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return rows as objects with `id`, `input` and `output`: those with `ids` in that order, else the first."""
        ...


Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Returns one vector a text. Blocking."""


class Tokenizers(Protocol):
    """Counts tokens exactly for models whose tokenizer is at hand."""

    def count(self, model: str, messages: Sequence[Mapping[str, Any]]) -> tuple[int, str] | None:
        """Return the tokens of a conversation and what counted them; None when nothing can for `model`."""
        ...


class Places(Protocol):
    """Knows who names a prompt as the model that answers."""

    def list_routes(self) -> Mapping[str, Sequence[str]]:
        """Return route name to the models that its targets and fallbacks ask, as far as these are prompts or routes."""
        ...

    def last_call(self, name: str) -> LastCall | None:
        """Return the newest call that a prompt shaped."""
        ...


@dataclass(frozen=True, kw_only=True)
class PromptParts:
    """What other rooms lend to prompts; without them, what needs them is refused and says so."""

    rows: Rows | None = None
    embed: Embed | None = None
    tokenizers: Tokenizers | None = None
    places: Places | None = None
    publish: Callable[[str, str], None] | None = None
    """Tells gateways that there is a new version: actor and note."""
