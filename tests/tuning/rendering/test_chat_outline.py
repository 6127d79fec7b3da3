"""A template that copies contents is rendered once for each order of roles, and gives the ids that rendering gives."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.messages import Message
from penstock.tuning.chat_outline import begins_with
from penstock.tuning.chat_template import ChatTemplate, compile_template
from penstock.tuning.renderer import Renderer
from tests.tuning.chat_templates import ENDS, SPECIAL, WORDS, make_renderer, make_tokenizer

TEMPLATES = {**{name: template for name, (template, _) in ENDS.items()}, "words": WORDS}
TOKENIZER = make_tokenizer()
FAST = {name: make_renderer(template, tokenizer=TOKENIZER) for name, template in TEMPLATES.items()}


def rendering(renderer: Renderer) -> Renderer:
    """Return the renderer with a template that is rendered every time."""
    assert renderer._template is not None
    return dataclasses.replace(renderer, _template=dataclasses.replace(renderer._template, copying=None))


SLOW = {name: rendering(renderer) for name, renderer in FAST.items()}
contents = st.lists(
    st.sampled_from([*SPECIAL, "<", "<|", "|>", "im_end", "walking", " water", " ", "\n", "\n\n", "0", "\ufddf0\ufddf", "\ufdd0"]),
    max_size=5,
).map("".join)  # fmt: skip
talks = st.lists(
    st.tuples(st.sampled_from(["user", "system", "tool"]), contents, contents), min_size=1, max_size=3
)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("loss_on", ["assistant", "last_turn", "all"])
@given(said=st.lists(talks, min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_sequences_are_those_of_a_template_that_is_rendered(
    name: str, loss_on: str, said: list[list[tuple[str, str, str]]]
) -> None:
    given_talks = [
        (
            [
                message
                for role, asked, answer in talk
                for message in (
                    Message(role=role, content=asked),  # type: ignore[arg-type]
                    Message(role="assistant", content=answer),
                )
            ],
            (),
        )
        for talk in said
    ]
    fast = FAST[name].render_sequences(given_talks, loss_on=loss_on)  # type: ignore[arg-type]
    slow = SLOW[name].render_sequences(given_talks, loss_on=loss_on)  # type: ignore[arg-type]
    assert [each if isinstance(each, list) else str(each) for each in fast] == [
        each if isinstance(each, list) else str(each) for each in slow
    ]


def compiled(source: str) -> ChatTemplate:
    return compile_template(
        source, special_tokens={"bos_token": "<s>"}, kwargs={}, frozen_clock="2026-01-01T00:00:00"
    )


COPYING = {
    "as it stands": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "by a name of its own": "{% for m in messages %}{% set text = bos_token + m['content'] %}{{ text }}{% endfor %}",
    "trimmed": "{% for m in messages %}{{ (m['content'] | trim) + m.content.strip() }}{% endfor %}",
    "with get": "{% for m in messages %}{{ m.get('content') }}{% endfor %}",
    "the first apart": "{{ messages[0]['content'] }}{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
    "by role and place": "{% for m in messages %}{% if m.role == 'user' and loop.index0 % 2 == 0 %}{{ m.content }}{% endif %}{% endfor %}",
    "by what a message has": "{% for m in messages %}{% if 'tool_calls' in m %}x{% endif %}{{ m.content if m.content is string else '' }}{% endfor %}",
}
LOOKING = {
    "a comparison": "{% for m in messages %}{% if m.content == 'a' %}x{% endif %}{{ m.content }}{% endfor %}",
    "a search": "{% for m in messages %}{% if '</think>' in m.content %}x{% endif %}{% endfor %}",
    "whether it is empty": "{% for m in messages %}{% if m.content %}x{% endif %}{% endfor %}",
    "its length": "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "another case": "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "a part of it": "{% for m in messages %}{{ m.content[0] }}{% endfor %}",
    "pieces of it": "{% for m in messages %}{{ m.content.split('x')[-1] }}{% endfor %}",
    "trimmed with its neighbour": "{% for m in messages %}{{ (m.content + ' ') | trim }}{% endfor %}",
    "trimmed of other signs": "{% for m in messages %}{{ m.content | trim('x') }}{% endfor %}",
    "a message as JSON": "{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "a message as it stands": "{% for m in messages %}{{ m }}{% endfor %}",
    "all of them": "{{ messages }}",
    "its values": "{% for m in messages %}{% for v in m.values() %}{{ v }}{% endfor %}{% endfor %}",
    "the one before": "{% for m in messages %}{% if loop.previtem and loop.previtem.content == 'a' %}x{% endif %}{% endfor %}",
    "the loop by another name": "{% for m in messages %}{% set l = loop %}{{ l }}{% endfor %}",
    "a change": "{% for m in messages %}{% if loop.changed(m.content) %}x{% endif %}{% endfor %}",
    "a name given later": "{% set t = '' %}{% for m in messages %}{% if t == 'a' %}x{% endif %}{% set t = m.content %}{% endfor %}",
    "kept in a namespace": "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = m.content %}{% endfor %}{{ n.t }}",
    "a macro": "{% macro w(t) %}{{ t }}{% endmacro %}{% for m in messages %}{{ w(m.content) }}{% endfor %}",
    "repeated": "{% for m in messages %}{{ m.content * 2 }}{% endfor %}",
    "filled in": "{% for m in messages %}{{ '%s' % m.content }}{% endfor %}",
    "chosen by it": "{% for m in messages if m.content %}x{% endfor %}",
}


@pytest.mark.parametrize("source", COPYING.values(), ids=COPYING)
def test_a_template_that_copies_is_known_to(source: str) -> None:
    template = compiled(source)
    said = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant"), ("one", "two"), strict=True)
    ]
    outline = template.outline(("user", "assistant"), add_generation_prompt=False)
    assert outline is not None
    filled = "".join(each if isinstance(each, str) else said[each]["content"] for each in outline)
    assert filled == template.render(said, add_generation_prompt=False)


@pytest.mark.parametrize("source", LOOKING.values(), ids=LOOKING)
def test_a_template_that_may_look_at_contents_has_no_outline(source: str) -> None:
    assert compiled(source).outline(("user", "assistant"), add_generation_prompt=False) is None


def test_a_conversation_that_the_template_refuses_has_no_outline() -> None:
    template = FAST["no_system"]._template
    assert template is not None and template.copying is not None
    assert template.outline(("system",), add_generation_prompt=True) is None
    assert template.outline(("user",), add_generation_prompt=True) is not None


@pytest.mark.parametrize(
    ("whole", "start", "is_so"),
    [
        (("a", 0, "bc"), ("a", 0, "b"), True),
        (("a", 0, "bc"), ("a", 0), True),
        (("a", 0), (), True),
        (("a", 0, "bc"), ("a", 1), False),
        (("a", 0, "bc"), ("a", 0, "c"), False),
        (("a", 0), ("a", 0, "b"), False),
        (("a",), ("ab",), False),
    ],
)
def test_an_outline_begins_another_where_every_text_of_it_does(
    whole: tuple[str | int, ...], start: tuple[str | int, ...], is_so: bool
) -> None:
    assert begins_with(whole, start) is is_so
