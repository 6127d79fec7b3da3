"""Chat templates: compiled as Hugging Face compiles them, rendered at a frozen time, asked what they read.

A template that never reads `tools` renders a conversation with tools without a word about them. What a template
reads is therefore known beforehand, and what would be lost is refused.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from penstock.tuning.chat_outline import MARK, Copying, Outline, placeholders, read_outline
from penstock.tuning.control_text import texts_in
from penstock.tuning.errors import TemplateRefused, UnreadableModel

_MAX_OUTLINES = 2000


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A compiled template with everything it is given beside the messages."""

    names: frozenset[str]
    """Every name, attribute and literal text in it: what it can read, and the tokens that it spells."""
    _template: jinja2.Template = field(repr=False)
    _given: Mapping[str, Any] = field(repr=False)
    copying: Copying | None = field(repr=False, default=None)
    """What is known of a template that copies contents and never looks at them; None: it may look."""
    _outlines: dict[tuple[tuple[str, ...], bool], Outline | None] = field(repr=False, default_factory=dict)

    def outline(self, roles: tuple[str, ...], *, add_generation_prompt: bool) -> Outline | None:
        """Return what it writes around the contents of messages with these roles (and nothing else in them).

        None where it looks at contents, or refuses such a conversation. Remembered.
        """
        key = (roles, add_generation_prompt)
        if self.copying is None or key in self._outlines:
            return self._outlines.get(key)
        try:
            text = self.render(placeholders(roles), add_generation_prompt=add_generation_prompt)
        except TemplateRefused:
            found = None
        else:
            found = read_outline(text)
        if len(self._outlines) >= _MAX_OUTLINES:
            self._outlines.clear()
        self._outlines[key] = found
        return found

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the text of the conversation; raise `TemplateRefused` with the template's own words."""
        given = {
            **self._given,
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": list(tools) or None,
        }
        # shared: without, Jinja2 copies its globals one by one, which takes longer than a short template does
        context = self._template.new_context(given, shared=True)
        try:
            return "".join(self._template.root_render_func(context))
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise TemplateRefused(f"The chat template refused the messages: {error}") from error


def compile_template(
    source: str, *, special_tokens: Mapping[str, str], kwargs: Mapping[str, Any], frozen_clock: str
) -> ChatTemplate:
    """Compile as `apply_chat_template` of Hugging Face does: sandboxed, trimmed blocks, its three additions.

    Raises `UnreadableModel` for what is no template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    try:
        tree = environment.parse(source)
        template = environment.from_string(source)
        clock = dt.datetime.fromisoformat(frozen_clock)
    except (jinja2.TemplateError, ValueError) as error:
        raise UnreadableModel(f"The chat template cannot be compiled: {error}.") from error
    given = {
        **template.globals,
        "strftime_now": clock.strftime,
        "documents": None,
        **kwargs,
        **special_tokens,
    }
    return ChatTemplate(
        names=_names_in(tree),
        _template=template,
        _given=given,
        copying=_read_copying(source, tree, [kwargs, special_tokens]),
    )


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's words for training; here it only passes them."""

    tags = {"generation"}  # noqa: RUF012  # the attribute is jinja2's

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _read_copying(source: str, tree: nodes.Template, given: Any) -> Copying | None:
    if any(MARK in text for text in (source, *texts_in(given))):
        return None
    try:
        return Copying(tree)
    except ValueError:
        return None


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)


def _names_in(tree: nodes.Template) -> frozenset[str]:
    names = {each.name for each in tree.find_all(nodes.Name)}
    names |= {each.attr for each in tree.find_all(nodes.Getattr)}
    names |= {each.value for each in tree.find_all(nodes.Const) if isinstance(each.value, str)}
    return frozenset(names | {each.data for each in tree.find_all(nodes.TemplateData)})
