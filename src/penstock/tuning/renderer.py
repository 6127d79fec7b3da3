"""The renderer: messages in, token ids out. The same object for training, evaluation and serving.

Its digest covers everything that shapes the ids: template, tokenizer, special tokens and the frozen clock. Two
promises matter. For ordinary text the ids are those of the template rendered as text and then tokenised. And
what a user writes can never become a control token: `<|end|>` inside a message is encoded as the seven
characters it is, while tokens that are mere vocabulary (`[1]`) keep working.

How: before rendering, each control token that a message spells out gets a marker (a Unicode noncharacter)
behind its first character, so the template still sees nearly the text itself; after rendering only unmarked
ones are control tokens, and the markers are taken out again.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from penstock.base.digest import digest_bytes, digest_json
from penstock.spec.messages import Message
from penstock.tuning.errors import DigestMismatch, TemplateRefused, UnreadableModel, UnsupportedModel

FORMAT = "penstock-renderer-1"
_MARKERS = tuple(chr(code) for code in range(0xFDD0, 0xFDE0))  # noncharacters: never meant for interchange
_DEFAULT_CLOCK = "2026-01-01T00:00:00"


class RendererSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a renderer is made of; `renderer.json` beside the weights."""

    format: str = FORMAT
    chat_template: str | None
    """None for models that do not chat (encoders)."""
    tokenizer_digest: str
    special_tokens: dict[str, str]
    """`bos_token`, `eos_token` … as the template may name them."""
    frozen_clock: str = _DEFAULT_CLOCK
    """What `strftime_now` tells the template, always."""

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return digest_json(msgspec.to_builtins(self))


class GoldenVector(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation and the ids it must give, stored with each model version and proven again at load."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A sequence to train on."""

    ids: list[int]
    mask: bytes
    """As long as `ids`: 1 where the loss counts. `zip(ids, mask)` gives ints; `numpy.frombuffer(mask, "u1")` an array."""


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Messages → ids. Immutable; safe to use from several threads."""

    spec: RendererSpec
    _tokenizer: Tokenizer = field(repr=False)
    _control: Mapping[str, int] = field(repr=False)
    _split: re.Pattern[str] | None = field(repr=False)
    _template: jinja2.Template | None = field(repr=False)

    @property
    def digest(self) -> str:
        """Digest over template, tokenizer digest, special tokens and clock."""
        return self.spec.digest

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Texts of the control tokens and their ids."""
        return self._control

    def render_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Return the ids of the conversation, ending where the assistant's turn begins.

        Raises `TemplateRefused` with the template's own words, `UnsupportedModel` if the model does not chat.
        """
        marker = _choose_marker(messages)
        marked = [
            {"role": message.role, "content": self._mark(message.content, marker)} for message in messages
        ]
        return self._encode_rendered(self._render(marked, add_generation_prompt), marker)

    def render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Return the conversation as the template writes it, for people to read; never feed this to an engine."""
        plain = [{"role": message.role, "content": message.content} for message in messages]
        return self._render(plain, add_generation_prompt)

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text between the start and end tokens that the tokenizer itself adds."""
        return [item.ids for item in self._tokenizer.encode_batch(list(texts), add_special_tokens=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, control tokens included."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def make_golden(self, conversations: Sequence[Sequence[Message]]) -> tuple[GoldenVector, ...]:
        """Return the golden vectors of these conversations."""
        return tuple(
            GoldenVector(messages=tuple(messages), ids=tuple(self.render_chat(messages)))
            for messages in conversations
        )

    def check_golden(self, vectors: Sequence[GoldenVector]) -> None:
        """Raise `DigestMismatch` if a conversation no longer gives its ids."""
        for number, vector in enumerate(vectors):
            if tuple(self.render_chat(vector.messages)) != vector.ids:
                raise DigestMismatch(
                    f"Golden vector {number} renders to other token ids than at registration.",
                    hint="The tokenizers or Jinja2 package changed its behaviour; pin the former version.",
                )

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        if self._template is None:
            raise UnsupportedModel("This model has no chat template.")
        clock = dt.datetime.fromisoformat(self.spec.frozen_clock)
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                strftime_now=clock.strftime,
                tools=None,
                documents=None,
                **self.spec.special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise TemplateRefused(f"The chat template refused the messages: {error}") from error

    def _mark(self, content: str, marker: str) -> str:
        """Break control tokens in `content`, and pieces at its edges that could join with the template's text."""
        if self._split is None:
            return content
        content = self._split.sub(lambda hit: hit[0][:1] + marker + hit[0][1:], content)
        for token in self._control:
            if any(content.endswith(token[:size]) for size in range(1, len(token))):
                content += marker
            if any(content.startswith(token[size:]) for size in range(1, len(token))):
                content = marker + content
        return content

    def _encode_rendered(self, text: str, marker: str) -> list[int]:
        if self._split is None:
            return list(self._tokenizer.encode(text.replace(marker, ""), add_special_tokens=False).ids)
        ids: list[int] = []
        position = 0
        for hit in self._split.finditer(text):
            self._encode_plain(text[position : hit.start()], marker, ids)
            ids.append(self._control[hit[0]])
            position = hit.end()
        self._encode_plain(text[position:], marker, ids)
        return ids

    def _encode_plain(self, text: str, marker: str, ids: list[int]) -> None:
        if text := text.replace(marker, ""):
            ids += self._tokenizer.encode(text, add_special_tokens=False).ids


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
    longest_first = sorted(control, key=len, reverse=True)
    return Renderer(
        spec=spec,
        _tokenizer=tokenizer,
        _control=control,
        _split=re.compile("|".join(map(re.escape, longest_first))) if control else None,
        _template=None if spec.chat_template is None else _compile(spec.chat_template),
    )


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


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it only passes them."""

    tags = {"generation"}  # noqa: RUF012  # the attribute is jinja2's

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compile(template: str) -> jinja2.Template:
    """Compile as `apply_chat_template` of Hugging Face does: sandboxed, trimmed blocks, its three additions."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[loopcontrols, _GenerationBlock],
    )

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)

    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise UnreadableModel(f"The chat template cannot be compiled: {error}.") from error


def _choose_marker(messages: Sequence[Message]) -> str:
    for marker in _MARKERS:
        if not any(marker in message.content for message in messages):
            return marker
    raise TemplateRefused("The messages hold every Unicode noncharacter that could mark control tokens.")
