"""The nouns of apps: declarations, requests, replies, and the ports that `main` fills."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import msgspec

from penstock.apps.ranking import Adjust
from penstock.apps.step_settings import CheckStep, ExpandStep, FilterStep, RewriteStep
from penstock.base.digest import digest_json, short_digest
from penstock.spec.knowledge import ChosenScope, Condition, PropertyValue
from penstock.spec.messages import Citation
from penstock.spec.prompts import ChainOfThought
from penstock.spec.spans import Span
from penstock.spec.usage import Usage

StepName = Literal["rewrite", "expand", "retrieve", "filter", "answer", "check"]
STEP_ORDER: tuple[StepName, ...] = get_args(StepName)
"""The order in which steps run, which is the order they have to be written in."""
CitationStyle = Literal["stripped", "inline"]
STYLES = ("marked", "instructed")
"""Built-in prompts. `marked` is Pocket's trained form without instructions; `instructed` explains the marks to any model."""


class AppDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain that answers questions from a knowledge base. Immutable: a change is another version."""

    name: str
    """The model name that clients use."""
    knowledge: str
    model: str
    """The route that the answer step calls through the gateway."""
    steps: tuple[StepName, ...] = ("retrieve", "answer")
    prompt: str = "instructed"
    """A built-in style, or `prompt:NAME` or `prompt:NAME@ALIAS`, which is given `question`, `sources` and `history`."""
    k: int = 5
    """Passages to find."""
    max_sentences: int = 14
    """Sentences to put before the model, in rank order of their passages."""
    max_prompt_words: int = 320
    """Bound on the words of these sentences: about 500 tokens of a small tokenizer."""
    max_prompt_tokens: int | None = None
    """Bound on these sentences in tokens of the answering model, instead of `max_prompt_words`; near-equal passages
    are then shown once."""
    min_dense_score: float = 0.16
    """A passage that shares no word with the question counts only from this cosine on, and where no passage
    comes so near, the question has nothing to do with the documents."""
    min_relative_score: float = 0.0
    """Passages below this share of the best one's score are left out: they distract small models."""
    quote_only: bool = False
    """Hold the reply to one of the sentences shown, or to not knowing. Needs a model whose server understands
    `structured_outputs.choice` (the embedded engine, vLLM)."""
    decline_bias: float = 0.0
    """Added to the model's inclination to say that it does not know, when it may only quote (embedded engine only)."""
    max_tokens: int = 256
    temperature: float = 0.0
    retrieve_timeout_s: float = 15.0
    answer_timeout_s: float = 120.0
    unknown_text: str = "I do not know. The documents hold no answer to this."
    """The reply when the model says that the passages hold no answer."""
    nothing_found_text: str = "I answer questions from my documents, and found nothing in them about this."
    """The reply when no passage comes near the question; no model is called."""
    description: str = ""
    """What it is for, in a sentence: agents read it to choose a tool."""
    filters: list[Condition] = []
    """What documents must fulfil to be found; all of these must hold."""
    citations: CitationStyle = "stripped"
    """Whether the marks (`[1]`) stay in the answer's text; citations are told beside it in either case."""
    when_nothing_found: Literal["abstain", "answer"] = "abstain"
    """`answer` lets the model answer without documents, which the reply says."""
    unknown_openings: list[str] = []
    """How replies of the model begin that say it does not know, besides `I do not know`."""
    turns: int = 0
    """Earlier messages of the conversation that the answering model is shown."""
    rewrite: RewriteStep = RewriteStep()
    expand: ExpandStep = ExpandStep()
    filter: FilterStep = FilterStep()
    check: CheckStep = CheckStep()
    retrieve_retries: int = 0
    answer_retries: int = 0
    """Attempts after the first, of a reply of which nothing was shown yet."""
    answer_fallback: str | None = None
    """The route that answers where the first one has failed each time."""
    deadline_s: float | None = None
    """Bound of the whole run. Past it steps that may be left out are, and the answer gets what time is left."""

    @property
    def version(self) -> str:
        """Digest of the declaration, as spans and headers show it."""
        return f"sha256:{short_digest(digest_json(declaration_content(self)))}"


_LATER = frozenset(
    {
        "description",
        "filters",
        "max_prompt_tokens",
        "citations",
        "when_nothing_found",
        "unknown_openings",
        "turns",
        "rewrite",
        "expand",
        "filter",
        "check",
        "retrieve_retries",
        "answer_retries",
        "answer_fallback",
        "deadline_s",
    }
)


def declaration_content(app: AppDeclaration) -> dict[str, Any]:
    """Return a declaration as registered versions hold it: what came later than the first ones, only where it is said.

    So an app that says nothing of it is the same version as before.
    """
    content: dict[str, Any] = msgspec.to_builtins(app)
    silent = msgspec.to_builtins(AppDeclaration(name=app.name, knowledge=app.knowledge, model=app.model))
    return {name: value for name, value in content.items() if name not in _LATER or value != silent[name]}


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a chat request that an app uses."""

    model: str
    question: str
    """The text of the last user message."""
    history: tuple[Turn, ...] = ()
    """What was said before it, oldest first; without instructions and tools."""
    messages: list[Any]
    """All messages as they came, for the trace."""
    stream: bool = False
    include_usage: bool = False
    overrides: dict[str, Any] = {}
    """Sampling parameters the caller set; they go to the answer step."""


Reason = Literal["nothing-found", "nothing-relevant", "not-known", "not-grounded"]
"""Why an app abstained: no passage came near the question; the filter threw all of them out; the model said that they
hold no answer; too little of its answer was borne out."""


UnsupportedWhy = Literal["not-carried", "number-not-found", "quote-not-found"]


class Unsupported(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A sentence or a quote of an answer that what it cites does not bear out."""

    text: str
    why: UnsupportedWhy
    start: int | None = None
    end: int | None = None
    """Which characters of the answer it is, where they can be told."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended, beside its text: clients need not guess it from the wording."""

    state: Literal["answered", "abstained"]
    reason: Reason | None = None
    from_documents: bool = True
    """False where the model answered without documents, none having been found."""
    question: str | None = None
    """What was searched for, where the question was rewritten."""
    grounded: float | None = None
    """Share of the answer's sentences that the passages bear out; None where it was not checked."""
    unsupported: tuple[Unsupported, ...] = ()
    """What the check of citations found borne out by nothing."""
    notes: tuple[str, ...] = ()
    """Steps that failed and were left out, and why."""
    knowledge: str | None = None
    """The version that was searched, such as `knowledge:handbook@3`."""


class AppReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an app answered."""

    text: str
    citations: tuple[Citation, ...]
    outcome: Outcome
    usage: Usage | None
    """The usage of its model calls; None when no model was called or none was told."""
    finish_reason: str
    trace_id: str


class FoundPassage(Protocol):
    """A passage as the retrieve step gets it; `knowledge.types.Hit` is one."""

    @property
    def passage_id(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def section(self) -> str | None: ...
    @property
    def anchor(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def sentences(self) -> tuple[str, ...]: ...
    @property
    def score(self) -> float: ...
    @property
    def dense_score(self) -> float | None: ...
    @property
    def lexical_score(self) -> float | None: ...
    @property
    def attributes(self) -> Mapping[str, PropertyValue]: ...


class Found(Protocol):
    """The answer to one search; `knowledge.types.Retrieval` is one."""

    @property
    def hits(self) -> Sequence[FoundPassage]: ...
    @property
    def generation(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def embedder(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def note(self) -> str | None: ...


EVERYTHING = ChosenScope()


class Retriever(Protocol):
    """Searches knowledge. Blocking: it runs in a thread."""

    def retrieve(
        self,
        name: str,
        query: str,
        k: int = 5,
        *,
        scope: ChosenScope = EVERYTHING,
        generation: str | None = None,
        traceparent: str | None = None,
        adjust: Adjust | None = None,
    ) -> Found:
        """Return at most `k` passages of what `scope` may find, best first; raise `PenstockError` when it cannot.

        `generation` asks for the very one that an earlier search was answered from, so that answers are not mixed.
        `adjust` changes how the base is searched, for this once.
        """


class PreparedPrompt(Protocol):
    """A chat request that a prompt has made; `prompts.serving.PreparedCall` is one."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def stamp(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def variables(self) -> dict[str, Any]: ...
    @property
    def chain_of_thought(self) -> ChainOfThought | None: ...
    @property
    def examples(self) -> list[str]: ...
    @property
    def warnings(self) -> list[str]: ...


class PromptSource(Protocol):
    """Knows the prompts that answer as models. Blocking: it runs in a thread."""

    def prepare(self, body: Mapping[str, Any]) -> PreparedPrompt:
        """Return the request to send for a request whose `model` is a prompt; raise `PenstockError`."""


class Recorder(Protocol):
    """Takes finished spans; `telemetry.recorder.SpanRecorder` is one."""

    def record(self, span: Span) -> None:
        """Keep `span`. Never raises, never waits."""


OnText = Callable[[str], Awaitable[None]]
"""Receives pieces of the answer as they come."""
