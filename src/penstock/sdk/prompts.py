"""`penstock.prompt("triage@prod")`: a version of a prompt in a program, filled in there, whether Penstock answers or not.

    mail = penstock.prompt("triage@prod")
    reply = client.chat.completions.create(**mail.request(mail="Where is my order?"))

What is filled in is what the gateway would make of `model: "prompt:triage@prod"`: the same code, the same bounds.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.sdk.errors import PromptUnavailable
from penstock.sdk.observation import current_span
from penstock.sdk.prompt_source import SOURCES, Away, Copy, PromptSource, Refused
from penstock.sdk.runtime import RUNTIME
from penstock.spec.prompts import PromptContent
from penstock.templating.answers import SplitReply, split_reply
from penstock.templating.check import check_prompt
from penstock.templating.examples import choose_examples
from penstock.templating.render import Rendered, render_prompt

MAX_AGE_S = 60.0
WAIT_S = 3.0
Fallback = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]


def prompt(
    reference: str,
    *,
    fallback: Fallback | None = None,
    max_age_s: float = MAX_AGE_S,
    wait_s: float = WAIT_S,
) -> "Prompt":
    """Return a version of a prompt: `triage`, `triage@prod`, `triage@3`.

    A copy in memory is given at once; one older than `max_age_s` is renewed in the background. Only the first call of a
    process waits for Penstock, at most `wait_s`; when it is away the last good copy on disk is given, and a warning is
    logged. Without one, `fallback` is used: a template, a list of messages, or a whole prompt as a mapping. Needs a key
    with the scope `prompts` (or `owner`). Raises `PromptUnavailable` when there is nothing at all.
    """
    name, at, version = reference.removeprefix("prompt:").partition("@")
    if not name or (at and not version):
        raise InvalidInput(f"{reference!r} names no prompt.", hint="Write NAME, NAME@ALIAS or NAME@NUMBER.")
    RUNTIME.start()
    settings = RUNTIME.settings
    assert settings is not None
    source = SOURCES.find(settings)
    found = source.get(name, version or None, max_age_s=max_age_s, wait_s=wait_s)
    if isinstance(found, Copy):
        return Prompt.of_copy(found, source)
    if fallback is not None:
        return Prompt.of_fallback(name, fallback, source)
    raise PromptUnavailable(
        f"The prompt {reference!r} is not to be had: {found}",
        hint="Give a `fallback`, or a key with the scope `prompts`."
        if isinstance(found, Refused)
        else "Is Penstock running, and PENSTOCK_URL its console's address? A `fallback` would be used now.",
    )


class Prompt:
    """One version of a prompt. Never changes; ask `penstock.prompt` again for what is current."""

    def __init__(
        self,
        *,
        name: str,
        number: int | None,
        content: PromptContent,
        examples: Sequence[Mapping[str, Any]],
        fetched_s: float | None,
        stamp: str | None,
        source: PromptSource,
    ) -> None:
        self.name = name
        self.version = number
        """None for a fallback."""
        self.content = content
        self.stamp = stamp
        """`NUMBER@sha256:…`, as traces show it."""
        self._examples = examples
        self._fetched_s = fetched_s
        self._source = source

    @classmethod
    def of_copy(cls, copy: Copy, source: PromptSource) -> "Prompt":
        """Return the prompt that Penstock sent."""
        value = copy.value
        return cls(
            name=value["name"],
            number=value["number"],
            content=msgspec.convert(value["content"], PromptContent),
            examples=value.get("examples", []),
            fetched_s=copy.fetched_s,
            stamp=value.get("stamp"),
            source=source,
        )

    @classmethod
    def of_fallback(cls, name: str, fallback: Fallback, source: PromptSource) -> "Prompt":
        """Return the prompt that the program itself holds; raise `InvalidPrompt`."""
        if isinstance(fallback, str):
            fallback = [{"role": "user", "content": fallback}]
        whole = (
            dict(fallback)
            if isinstance(fallback, Mapping)
            else {"messages": [dict(turn) for turn in fallback]}
        )
        try:
            content = msgspec.convert(whole, PromptContent)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"The fallback of the prompt {name!r} is none: {error}.") from None
        if isinstance(fallback, Mapping):
            check_prompt(content)
        return cls(
            name=name, number=None, content=content, examples=(), fetched_s=None, stamp=None, source=source
        )

    @property
    def label(self) -> str:
        """`triage@3`; the name alone for a fallback."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @property
    def is_fallback(self) -> bool:
        """Whether this is what the program holds itself."""
        return self.version is None

    @property
    def age_s(self) -> float | None:
        """How long ago it came from Penstock; None for a fallback."""
        return None if self._fetched_s is None else max(0.0, time.time() - self._fetched_s)

    @property
    def parameters(self) -> dict[str, Any]:
        """Sampling parameters: `temperature` and its like."""
        return dict(self.content.parameters)

    @property
    def model(self) -> str | None:
        """The route that it is meant for, if it says one."""
        return self.content.model

    def render(
        self,
        variables: Mapping[str, Any] | None = None,
        /,
        *,
        history: Sequence[Mapping[str, Any]] = (),
        **named: Any,
    ) -> list[dict[str, Any]]:
        """Return the messages. Variables are given by name, or as a mapping where a name is no Python word.

        The innermost open observation notes the version. Raises `WrongVariables`, `RenderFailed`.
        """
        return self._render({**(variables or {}), **named}, history).messages

    def request(
        self,
        variables: Mapping[str, Any] | None = None,
        /,
        *,
        history: Sequence[Mapping[str, Any]] = (),
        **named: Any,
    ) -> dict[str, Any]:
        """Return the members of a chat completion request: messages, model, parameters, tools, response format."""
        rendered = self._render({**(variables or {}), **named}, history)
        model = {} if rendered.model is None else {"model": rendered.model}
        return {**model, **rendered.request()}

    def answer(self, text: str) -> str:
        """Return the answer in a reply's text, without the reasoning that the prompt asked for."""
        cot = self.content.chain_of_thought
        return text if cot is None else self.split(text).answer

    def split(self, text: str) -> SplitReply:
        """Return reasoning and answer of a reply's text."""
        cot = self.content.chain_of_thought
        return SplitReply(reasoning=None, answer=text) if cot is None else split_reply(text, cot)

    def _render(self, variables: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Rendered:
        if not self.is_fallback:
            current_span().update(prompt=self.label)
        few = self.content.few_shot
        if few is not None and few.pick == "nearest" and not self.is_fallback:
            return self._render_there(variables, history)
        content = self.content
        if self.is_fallback and not content.variables:
            content = _undeclared(content, variables)
        examples: Sequence[Mapping[str, Any]] = ()
        if few is not None:
            pool = self._examples if few.dataset is not None else few.rows
            examples = choose_examples(few, pool, variables, history)
        return render_prompt(content, variables, history=history, examples=examples)

    def _render_there(self, variables: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Rendered:
        """Let Penstock fill it in: only there is the embedding model that finds the nearest examples."""
        body = {
            "prompt": self.label,
            "variables": dict(variables),
            "history": [dict(turn) for turn in history],
        }
        try:
            return msgspec.convert(self._source.connection.render(body)["rendered"], Rendered)
        except Refused as error:
            raise InvalidInput(f"The prompt {self.label} was not filled in: {error}") from error
        except Away as error:
            raise PromptUnavailable(
                f"The prompt {self.label} takes the nearest examples, and Penstock, which finds them, is away: {error}.",
                hint="Fixed or drawn examples are filled in without it.",
            ) from error

    def __repr__(self) -> str:
        return f"<penstock.Prompt {self.label}>"


def _undeclared(content: PromptContent, variables: Mapping[str, Any]) -> PromptContent:
    """Declare what a fallback that is only text is given: nobody declared anything."""
    kinds: dict[type, Any] = {
        str: "text",
        bool: "boolean",
        int: "integer",
        float: "number",
        list: "list",
        dict: "object",
    }
    declared = {name: {"type": kinds.get(type(value), "text")} for name, value in variables.items()}
    return msgspec.convert({**msgspec.to_builtins(content), "variables": declared}, PromptContent)
