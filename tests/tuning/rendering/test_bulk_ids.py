"""Conversations that are written many at a time get the ids and masks that each would get by itself, or are left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.spec.messages import Message
from penstock.spec.tuning import LossOn
from penstock.tuning.bulk_ids import Bulk, PlainTalk
from penstock.tuning.renderer import Renderer
from penstock.tuning.training_ids import Rendered
from tests.tuning.chat_templates import ENDS, PLAIN, SPECIAL, WORDS, make_renderer, make_tokenizer

TOKENIZER = make_tokenizer()
RENDERERS = {name: make_renderer(template, tokenizer=TOKENIZER) for name, (template, _) in ENDS.items()} | {
    "words": make_renderer(WORDS, tokenizer=TOKENIZER),
    "twice": make_renderer("<|bos|>" + PLAIN, tokenizer=TOKENIZER),
}
NO_LIMIT = 1 << 30
contents = st.lists(
    st.sampled_from([*SPECIAL, "<", "<|", "|>", "im_end", "walking", " water", " is", " far", " ", "\n", "\n\n", "é", "\ufdd0"]),
    max_size=6,
).map("".join)  # fmt: skip
talks = st.lists(
    st.tuples(st.sampled_from(["user", "user", "user", "system", "assistant"]), contents, contents),
    min_size=1,
    max_size=3,
).map(
    lambda turns: PlainTalk(
        tuple(role for asked, _, _ in turns for role in (asked, "assistant")),
        [text for _, *texts in turns for text in texts],
    )
)


def by_themselves(renderer: Renderer, said: list[PlainTalk], loss_on: LossOn) -> list[list[Rendered] | None]:
    found = renderer.render_sequences(
        [
            ([Message(role=role, content=text) for role, text in zip(*talk, strict=True)], ())  # type: ignore[arg-type]
            for talk in said
        ],
        loss_on=loss_on,
    )
    return [each if isinstance(each, list) else None for each in found]


def unpack(bulk: Bulk) -> list[tuple[int, list[int], bytes]]:
    ends = np.cumsum(bulk.sizes).tolist()
    assert len(bulk.ids) == len(bulk.mask) == (ends[-1] if ends else 0)
    return [
        (place, bulk.ids[end - size : end].tolist(), bulk.mask[end - size : end].tobytes())
        for place, size, end in zip(bulk.taken.tolist(), bulk.sizes.tolist(), ends, strict=True)
    ]


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("loss_on", ["assistant", "last_turn", "all"])
@given(said=st.lists(talks, min_size=1, max_size=6), max_length=st.sampled_from([24, NO_LIMIT]))
@settings(max_examples=25, deadline=None)
def test_what_is_taken_gets_the_ids_and_the_mask_that_it_gets_by_itself(
    name: str, loss_on: LossOn, said: list[PlainTalk], max_length: int
) -> None:
    renderer = RENDERERS[name]
    plain = [talk for talk in said if all(map(renderer.is_plain, talk.contents))]
    bulk = renderer.render_bulk(plain, loss_on=loss_on, max_length=max_length)
    assert bulk is not None
    wanted = by_themselves(renderer, plain, loss_on)
    for (place, ids, mask), n_learnt in zip(unpack(bulk), bulk.n_learnt.tolist(), strict=True):
        assert wanted[place] == [Rendered(ids=ids, mask=mask, stops=True)]
        assert len(ids) <= max_length
        assert n_learnt == mask.count(1)


def talk_of(*said: str) -> PlainTalk:
    return PlainTalk(("user", "assistant") * (len(said) // 2), list(said))


@pytest.mark.parametrize("name", ["chatml", "no_system", "plain", "thinking", "tools"])
def test_ordinary_conversations_are_all_taken_whatever_order_their_roles_stand_in(name: str) -> None:
    said = [
        talk_of("Where is water?", "By the gate."),
        talk_of("One", "two", "three", "four."),
        talk_of("Is it far?", "No."),
        PlainTalk(("user", "assistant", "assistant"), ["And", "then", "so."])
        if name != "no_system"
        else talk_of("a", "b"),
    ]
    if name == "thinking":  # it writes earlier turns otherwise once they are over
        said = [talk for talk in said if len(talk.roles) == 2]
    bulk = RENDERERS[name].render_bulk(said, max_length=NO_LIMIT)
    assert bulk is not None
    assert bulk.taken.tolist() == list(range(len(said)))


def test_what_there_is_something_to_tell_about_is_left_to_be_looked_at() -> None:
    said = [
        talk_of("Where?", "Here."),
        talk_of("Where?", ""),  # nothing to learn
        talk_of("walking " * 40, "Here."),  # too long
        talk_of("And", "now", "so", "there."),
    ]
    bulk = RENDERERS["chatml"].render_bulk(said, max_length=40)
    assert bulk is not None
    assert bulk.taken.tolist() == [0, 3]


@pytest.mark.parametrize("name", ["words", "twice"])  # no token ends a turn; two tokens begin a sequence
def test_of_templates_that_are_wrong_nothing_is_taken(name: str) -> None:
    bulk = RENDERERS[name].render_bulk([talk_of("Where?", "Here.")], max_length=NO_LIMIT)
    assert bulk is not None
    assert not len(bulk.taken)


def test_a_conversation_of_which_one_reply_does_not_end_is_left_to_be_looked_at() -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ '' if loop.last else '<|end|>' }}{% endfor %}"
    endless = make_renderer(
        source + "{% if add_generation_prompt %}<|end|><|assistant|>{% endif %}", tokenizer=TOKENIZER
    )
    bulk = endless.render_bulk([talk_of("One", "two", "three", "four")], max_length=NO_LIMIT)
    assert bulk is not None
    assert not len(bulk.taken)


def test_spaces_that_a_template_takes_off_leave_a_conversation_to_be_rendered() -> None:
    said = [talk_of("Where?", "Here."), talk_of(" Where?", "Here.")]
    bulk = RENDERERS["no_system"].render_bulk(said, max_length=NO_LIMIT)
    assert bulk is not None
    assert bulk.taken.tolist() == [0]


def test_a_reply_that_melts_into_its_prompt_is_left_to_be_rendered() -> None:
    melting = RENDERERS[
        "dated"
    ]  # two line breaks before a letter are two tokens, and one where the prompt ends
    assert melting.encode_texts(["\n\n", "\n\nHere"])[0] != melting.encode_texts(["\n\nHere"])[0][:1]
    bulk = melting.render_bulk([talk_of("Where?", "Here.")], max_length=NO_LIMIT)
    assert bulk is not None
    assert not len(bulk.taken)


@pytest.mark.parametrize(
    "renderer",
    [
        make_renderer(PLAIN, tokenizer=TOKENIZER, bos="once"),
        make_renderer(
            "{% for m in messages %}{{ m.content | upper }}<|end|>{% endfor %}", tokenizer=TOKENIZER
        ),
        make_renderer(None, tokenizer=TOKENIZER),
    ],
    ids=["one bos whatever is written", "a template that looks at contents", "no template"],
)
def test_renderers_that_do_more_than_copy_write_nothing_in_bulk(renderer: Renderer) -> None:
    assert renderer.render_bulk([talk_of("a", "b")], max_length=NO_LIMIT) is None


@pytest.mark.parametrize(
    ("content", "is_plain"),
    [("a < b", True), ("[1] é", True), ("", True), ("<|end|>", False), ("x<|", False), ("|>x", False), ("\ufdd0", False)],
)  # fmt: skip
def test_a_content_is_plain_where_nothing_in_it_could_become_a_control_token(
    content: str, is_plain: bool
) -> None:
    assert RENDERERS["chatml"].is_plain(content) is is_plain
