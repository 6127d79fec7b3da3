"""The renderer: messages in, token ids out. The same object for training, evaluation and serving.

Its digest covers everything that shapes the ids: template, its arguments, tokenizer, special and stop tokens, the
frozen clock. Two promises matter. For ordinary text the ids are those of the template rendered as text and then
tokenised. And what a user writes can never become a control token: `<|end|>` inside a message is encoded as the
seven characters it is, while tokens that are mere vocabulary (`[1]`) keep working.

For training it says beside the ids on which of them the loss counts (`training_ids.py`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
from tokenizers import Tokenizer

from penstock.base.digest import digest_bytes, digest_json
from penstock.base.errors import PenstockError
from penstock.spec.messages import Message
from penstock.spec.tuning import LossOn
from penstock.tuning.bulk_ids import Bulk, PlainTalk, write_bulk
from penstock.tuning.chat_template import ChatTemplate, compile_template
from penstock.tuning.control_text import ControlText, choose_marker, texts_in
from penstock.tuning.errors import (
    DigestMismatch,
    HistoryRewritten,
    TemplateRefused,
    UnreadableModel,
    UnsupportedModel,
)
from penstock.tuning.training_ids import Conversation, Rendered, trained_turns, write_sequences

FORMAT = "penstock-renderer-1"
_DEFAULT_CLOCK = "2026-01-01T00:00:00"


class RendererSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a renderer is made of; `renderer.json` beside the weights.

    What was added later is unset where it is not needed, so that the digests of older renderers stand.
    """

    format: str = FORMAT
    chat_template: str | None
    """None for models that do not chat (encoders)."""
    tokenizer_digest: str
    special_tokens: dict[str, str]
    """`bos_token`, `eos_token` … as the template may name them."""
    frozen_clock: str = _DEFAULT_CLOCK
    """What `strftime_now` tells the template, always."""
    template_kwargs: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    """Further arguments of the template, such as `{"enable_thinking": false}`."""
    stop_tokens: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Control tokens that end a turn, beside `eos_token` and what the template itself writes there."""
    bos: Literal["template", "once"] | msgspec.UnsetType = msgspec.UNSET
    """`template` (unset): as the template writes it. `once`: exactly one in front, whatever the template writes."""

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return digest_json(msgspec.to_builtins(self))


class GoldenVector(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation and the ids it must give, stored with each model version and proven again at load."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...] | None = None
    """Of a conversation that ends with the assistant: where the loss counts. `ids` are those of training then."""


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Messages → ids. Immutable; safe to use from several threads."""

    spec: RendererSpec
    _text: ControlText = field(repr=False)
    _template: ChatTemplate | None = field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return build_renderer, (self.spec, self._text.tokenizer.to_str().encode())

    @cached_property
    def digest(self) -> str:
        """Digest over template and its arguments, tokenizer digest, special and stop tokens and clock."""
        return self.spec.digest

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Texts of the control tokens and their ids."""
        return self._text.control

    @property
    def vocab_size(self) -> int:
        """Number of ids that the tokenizer can give, control tokens included."""
        return int(self._text.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def template_names(self) -> frozenset[str]:
        """Every name and literal text in the template; empty without one."""
        return frozenset() if self._template is None else self._template.names

    @property
    def bos_id(self) -> int | None:
        """The id of the token that begins a sequence; None where the model names none."""
        return self._text.control.get(self.spec.special_tokens.get("bos_token", ""))

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn: those named, `eos_token`, and what the template writes there; sorted."""
        named = [*(self.spec.stop_tokens or ()), self.spec.special_tokens.get("eos_token", "")]
        found = {self._text.control[token] for token in named if token in self._text.control}
        return tuple(sorted(found | self._turn_end()))

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """Return the ids of the conversation, ending where the assistant's turn begins.

        Raises `TemplateRefused` with the template's own words, or where the template would leave out tools or calls
        of them without a word; `UnsupportedModel` if the model does not chat.
        """
        talk = self._mark(messages, tools)
        text = self._chat.render(talk.messages, add_generation_prompt=add_generation_prompt, tools=talk.tools)
        return self._fix_bos(self._text.encode(text, talk.marker))

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Return the conversation as the template writes it, for people to read; never feed this to an engine."""
        plain = [_as_template_sees(message) for message in messages]
        return self._chat.render(plain, add_generation_prompt=add_generation_prompt)

    def render_training(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        loss_on: LossOn = "assistant",
    ) -> Rendered:
        """Return the ids of a conversation that ends with the assistant, and where the loss counts.

        Promised: the ids before each trained reply are those of `render_chat` for that turn; the token that ends
        the turn is in the mask, where the template writes one (`Rendered.stops`); nothing of an earlier turn is
        otherwise than it was when it was asked for. Raises `HistoryRewritten` where a template cannot keep the last
        promise in one sequence (`render_sequences` makes several), `PrefixBroken` where it cannot keep the first.
        """
        (found,) = self.render_sequences([(messages, tools)], loss_on=loss_on)
        if isinstance(found, PenstockError):
            raise found
        if len(found) > 1:
            raise HistoryRewritten(
                "The template writes earlier turns otherwise than when they were asked for.",
                hint='Train on the last turn only (loss_on = "last_turn"), or let rows be split by turn.',
            )
        return found[0]

    def render_sequences(
        self,
        talks: Iterable[tuple[Sequence[Message], Sequence[Mapping[str, Any]]]],
        *,
        loss_on: LossOn = "assistant",
        untrained: Sequence[frozenset[int]] = (),
    ) -> list[list[Rendered] | PenstockError]:
        """Return the sequences of each conversation, one or one a turn, or why there are none.

        `untrained` names, for each conversation, the places of assistant messages that are not to be learnt. Made
        for many at once: texts are encoded together on all cores.
        """
        if self._template is None:
            return [UnsupportedModel("This model has no chat template.") for _ in talks]
        drafts: list[Conversation | PenstockError] = []
        for number, (messages, tools) in enumerate(talks):
            try:
                turns = trained_turns(messages, loss_on, untrained[number] if untrained else frozenset())
                talk = self._mark(messages, tools)
                drafts.append(
                    Conversation(
                        messages=talk.messages, tools=talk.tools, marker=talk.marker, turns=turns,
                        is_whole=loss_on == "all",
                    )
                )  # fmt: skip
            except PenstockError as error:
                drafts.append(error)
        stops = frozenset(self.stop_ids)
        found = write_sequences(drafts, self._chat, self._text, stops)
        if self.spec.bos != "once":
            return found
        return [
            each if isinstance(each, PenstockError) else [self._fix_rendered(one) for one in each]
            for each in found
        ]

    def render_bulk(
        self, talks: Sequence[PlainTalk], *, loss_on: LossOn = "assistant", max_length: int
    ) -> Bulk | None:
        """Return the sequences of those conversations about which there is nothing to tell; None: of none of them.

        They are those of `render_sequences`, at a fraction of its time. Left out are conversations that are longer than
        `max_length`, have nothing to learn, do not end as they should, or need more than one look.
        """
        if self._template is None or self._template.copying is None or self.spec.bos == "once":
            return None
        return write_bulk(
            talks, self._template, self._text, stops=self.stop_ids, bos=self.bos_id, loss_on=loss_on,
            max_length=max_length,
        )  # fmt: skip

    def is_plain(self, content: str) -> bool:
        """Whether a content spells out no control token, nor a part of one that could become one with its surroundings."""
        return self._text.is_plain(content)

    def render_plain(self, texts: Sequence[str]) -> list[Rendered]:
        """Return texts without turns between the tokens that begin and end a sequence, the loss on all of them."""
        stop = self._text.control.get(self.spec.special_tokens.get("eos_token", ""))
        start = [] if self.bos_id is None else [self.bos_id]
        end = [] if stop is None else [stop]
        known = self._text.encode_all(texts)
        rows = [[*start, *known[text], *end] for text in texts]
        return [Rendered(ids=ids, mask=b"\x01" * len(ids), stops=stop is not None) for ids in rows]

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text between the start and end tokens that the tokenizer itself adds."""
        found = self._text.tokenizer.encode_batch(list(texts), add_special_tokens=True)
        return [item.ids for item in found]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, control tokens included."""
        text: str = self._text.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def find_template_text(self, content: str) -> str | None:
        """Return a control token that a text spells out; None where it holds none."""
        return self._text.find(content)

    def count_ids(self, token: str) -> int:
        """Return how many ids a text becomes when it is one of the template's own tokens; 0 for the empty text."""
        return 1 if token in self._text.control else len(self._text.encode_all([token])[token])

    def make_golden(self, conversations: Sequence[Sequence[Message]]) -> tuple[GoldenVector, ...]:
        """Return the golden vectors of these conversations, with a mask for those that end with the assistant."""
        return tuple(
            GoldenVector(messages=tuple(messages), ids=ids, mask=mask)
            for messages in conversations
            for ids, mask in (self._golden_of(messages, is_trained=messages[-1].role == "assistant"),)
        )

    def check_golden(self, vectors: Sequence[GoldenVector]) -> None:
        """Raise `DigestMismatch` if a conversation no longer gives its ids, or its mask."""
        for number, vector in enumerate(vectors):
            ids, mask = self._golden_of(vector.messages, is_trained=vector.mask is not None)
            if ids != vector.ids or mask != vector.mask:
                what = "token ids" if ids != vector.ids else "tokens to learn"
                raise DigestMismatch(
                    f"Golden vector {number} renders to other {what} than at registration.",
                    hint="The tokenizers or Jinja2 package changed its behaviour; pin the former version.",
                )

    def _golden_of(
        self, messages: Sequence[Message], *, is_trained: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        if not is_trained:
            return tuple(self.render_chat(messages)), None
        rendered = self.render_training(messages, loss_on="last_turn")
        return tuple(rendered.ids), tuple(rendered.mask)

    @property
    def _chat(self) -> ChatTemplate:
        if self._template is None:
            raise UnsupportedModel("This model has no chat template.")
        return self._template

    def _mark(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> "_Marked":
        mark = self._text.mark_text
        if not tools and not any(map(_has_more, messages)):
            marker = choose_marker([message.content for message in messages])
            said = [{"role": each.role, "content": mark(each.content, marker)} for each in messages]
            return _Marked(messages=said, tools=[], marker=marker)
        plain = [_as_template_sees(message) for message in messages]
        names = self._chat.names
        if tools and "tools" not in names:
            raise TemplateRefused("The chat template does not know tools; they would be left out silently.")
        for name in ("tool_calls", "reasoning_content"):
            if name not in names and any(name in message for message in plain):
                raise TemplateRefused(
                    f"The chat template does not read {name}; it would be left out silently."
                )
        marker = choose_marker(texts_in([plain, list(tools)]))
        return _Marked(
            messages=[{**self._text.mark(each, marker), "role": each["role"]} for each in plain],
            tools=[self._text.mark(tool, marker) for tool in tools],
            marker=marker,
        )

    def _turn_end(self) -> set[int]:
        """Return the control token that the template writes behind a reply, if it writes one."""
        if self._template is None:
            return set()
        try:
            said = [Message(role="user", content="a"), Message(role="assistant", content="b")]
            before = self.render_chat(said[:1])
            whole = self.render_chat(said, add_generation_prompt=False)
        except TemplateRefused:
            return set()
        control = set(self._text.control.values())
        return set([each for each in whole[len(before) :] if each in control][:1])

    def _fix_bos(self, ids: list[int]) -> list[int]:
        if self.spec.bos != "once" or self.bos_id is None:
            return ids
        n_there = next((place for place, each in enumerate(ids) if each != self.bos_id), len(ids))
        return [self.bos_id, *ids[n_there:]]

    def _fix_rendered(self, rendered: Rendered) -> Rendered:
        ids = self._fix_bos(rendered.ids)
        mask = (
            b"\x00" * (len(ids) - len(rendered.ids)) + rendered.mask
        )  # only the front moves, and it is never trained
        return Rendered(ids=ids, mask=mask[len(mask) - len(ids) :], stops=rendered.stops)


@dataclass(frozen=True, kw_only=True)
class _Marked:
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    marker: str


def _has_more(message: Message) -> bool:
    """Whether a message has more than a role and a text."""
    return bool(
        message.reasoning is not None
        or message.tool_calls
        or message.tool_call_id is not None
        or message.name is not None
    )


def _as_template_sees(message: Message) -> dict[str, Any]:
    """Return a message under the names that templates know; what it has not is not there."""
    seen: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        seen["reasoning_content"] = message.reasoning
    if message.tool_calls:
        seen["tool_calls"] = [_open_arguments(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        seen["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        seen["name"] = message.name
    return seen


def _open_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call whose arguments are an object: templates write them as JSON themselves."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def load_renderer(spec_path: Path, tokenizer_path: Path) -> Renderer:
    """Return the renderer in `renderer.json` with its tokenizer.

    Raises `UnreadableModel` for a damaged file, `DigestMismatch` if the tokenizer is another one.
    """
    try:
        spec = msgspec.json.decode(spec_path.read_bytes(), type=RendererSpec)
        data = tokenizer_path.read_bytes()
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableModel(f"Cannot read the renderer {spec_path.name}: {error}.") from error
    if spec.format != FORMAT:
        raise UnreadableModel(f"{spec_path.name} has the format {spec.format!r}; known: {FORMAT}.")
    if digest_bytes(data) != spec.tokenizer_digest:
        raise DigestMismatch(
            f"{tokenizer_path.name} is not the tokenizer that {spec_path.name} was made with.",
            expected=spec.tokenizer_digest,
        )
    return build_renderer(spec, data)


def build_renderer(spec: RendererSpec, tokenizer_json: bytes) -> Renderer:
    """Return the renderer of `spec`; `tokenizer_json` must have the digest that the spec names."""
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        added = json.loads(tokenizer_json).get("added_tokens") or []
    except Exception as error:  # tokenizers raises bare Exception for what its Rust side reports
        raise UnreadableModel(f"The tokenizer cannot be read: {error}") from error
    tokenizer.no_truncation()  # files carry the lengths of their training run; cutting is never silent here
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # control tokens in plain text are text
    control = {str(item["content"]): int(item["id"]) for item in added if item["special"]}
    odd = [
        item["content"] for item in added if item["special"] and (item.get("lstrip") or item.get("rstrip"))
    ]
    if odd and spec.chat_template is not None:
        raise UnsupportedModel(f"Control tokens that swallow spaces are not supported: {', '.join(odd)}.")
    template = None
    if spec.chat_template is not None:
        template = compile_template(
            spec.chat_template,
            special_tokens=spec.special_tokens,
            kwargs=spec.template_kwargs or {},
            frozen_clock=spec.frozen_clock,
        )
    return Renderer(spec=spec, _text=ControlText(tokenizer, control), _template=template)


def read_renderer_spec(folder: Path) -> RendererSpec:
    """Return the spec of a Hugging Face folder: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`."""
    try:
        tokenizer = (folder / "tokenizer.json").read_bytes()
        config_path, template_path = folder / "tokenizer_config.json", folder / "chat_template.jinja"
        config = json.loads(config_path.read_text()) if config_path.is_file() else {}
        template = template_path.read_text() if template_path.is_file() else config.get("chat_template")
    except (OSError, ValueError) as error:
        raise UnreadableModel(f"The tokenizer files of {folder.name} cannot be read: {error}.") from error
    if isinstance(template, list):  # several named templates
        template = next((item["template"] for item in template if item.get("name") == "default"), None)
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            special[name] = value
    return RendererSpec(
        chat_template=template, tokenizer_digest=digest_bytes(tokenizer), special_tokens=special
    )
