"""What happens to a chat request whose model is a prompt: it becomes the request that the prompt makes of it.

Pure but for the registry and the examples: who sends it on is the apps process. A version that a number or digest names
never changes and is kept; aliases are looked up each time, so that a move holds at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from penstock.base.errors import InvalidInput
from penstock.prompts.errors import NoModel
from penstock.prompts.inputs import read_inputs
from penstock.prompts.loops import refuse_loops
from penstock.prompts.service import PromptService, prompt_ref
from penstock.prompts.types import KIND, PromptVersion
from penstock.spec.prompts import ChainOfThought

MAX_KEPT = 512
_OWN = frozenset({"model", "messages", "prompt_variables", "prompt_model", "prompt"})
_ALIKE = (("max_tokens", "max_completion_tokens"),)
"""Two names of one thing: whoever gives one of them means to set it aside."""
Routes = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """A request to send on, and what its span says."""

    name: str
    label: str
    """`triage@3`"""
    stamp: str
    body: dict[str, Any]
    """A chat completion request to `body["model"]`."""
    variables: dict[str, Any]
    chain_of_thought: ChainOfThought | None = None
    """How the reply is taken apart, when the caller gets the answer alone."""
    examples: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class PromptServer:
    """Prepares requests. Thread-safe; blocking where an alias is looked up or examples are read."""

    def __init__(self, service: PromptService, *, routes: Callable[[], Routes] = dict) -> None:
        """`routes` says which prompts and routes each route asks."""
        self._service = service
        self._routes = routes
        self._kept: OrderedDict[str, PromptVersion] = OrderedDict()
        self._lock = Lock()

    def prepare(self, body: Mapping[str, Any]) -> PreparedCall:
        """Return the request that the prompt `body["model"]` makes of `body`.

        The caller's own members win over the prompt's. Raises `UnknownPrompt` and its like, `WrongVariables`,
        `RenderFailed`, `NoModel`, `PromptLoop`, `BadExamples`.
        """
        version = self._find(str(body.get("model")))
        content = version.content
        variables, history = read_inputs(content, body)
        model = _text_member(body, "prompt_model") or content.model
        if model is None:
            raise NoModel(
                f"The prompt {version.label} names no model.",
                hint="Say which in `prompt_model`, or save a version with `model`.",
                param="prompt_model",
            )
        self._check_loops(version.name, model)
        rendered = self._service.render(content, variables, history=history)
        own = {name: value for name, value in body.items() if name not in _OWN and value is not None}
        made = rendered.request()
        for pair in _ALIKE:
            if any(name in own for name in pair):
                made = {name: value for name, value in made.items() if name not in pair}
        cot = content.chain_of_thought
        return PreparedCall(
            name=version.name,
            label=f"{version.name}@{version.number}",
            stamp=version.stamp,
            body={**made, **own, "model": model},
            variables=variables,
            chain_of_thought=cot if cot is not None and cot.strip else None,
            examples=rendered.examples,
            warnings=rendered.warnings,
        )

    def _find(self, reference: str) -> PromptVersion:
        with self._lock:
            kept = self._kept.get(reference)
            if kept is not None:
                self._kept.move_to_end(reference)
                return kept
        version = self._service.get(reference)
        wanted = prompt_ref(reference)
        if wanted.number is not None or wanted.digest is not None:
            with self._lock:
                _keep(self._kept, reference, version)
        return version

    def _check_loops(self, name: str, model: str) -> None:
        routes = self._routes()
        if not model.startswith(f"{KIND}:") and model not in routes:
            return

        def model_of(named: str) -> tuple[str, str | None] | None:
            if not named.startswith(f"{KIND}:"):
                return None
            version = self._find(named)
            return version.name, version.content.model

        refuse_loops(name, model, model_of=model_of, routes=routes)


def _keep(kept: "OrderedDict[str, PromptVersion]", reference: str, version: PromptVersion) -> None:
    kept[reference] = version
    while len(kept) > MAX_KEPT:
        kept.popitem(last=False)


def _text_member(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidInput(f"`{name}` must be the name of a model.", param=name)
    return value
