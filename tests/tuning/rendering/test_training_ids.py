"""What is learnt is what is served: prompts are prefixes, turns end inside the mask, history is as it was asked for."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from penstock.spec.messages import Message
from penstock.tuning.errors import HistoryRewritten, PrefixBroken, RowNotUnderstood, TemplateRefused
from penstock.tuning.renderer import GoldenVector, Renderer
from penstock.tuning.training_ids import Rendered
from tests.tuning.chat_templates import (
    CHATML,
    DATED,
    ENDS,
    NO_SYSTEM,
    PLAIN,
    SPECIAL,
    THINKING,
    TOOLS,
    WORDS,
    make_renderer,
    make_tokenizer,
)

TOKENIZER = make_tokenizer()
RENDERERS = {name: make_renderer(template, tokenizer=TOKENIZER) for name, (template, _) in ENDS.items()}
nasty_text = st.lists(
    st.one_of(
        st.sampled_from([*SPECIAL, "\n", "\n\n", " ", "<|", "|>", "<think>", "</think>", "im_end", "\ufdd0"]),
        st.text(max_size=6),
    ),
    max_size=6,
).map("".join)


def talk(*texts: str, **last: Any) -> list[Message]:
    said = [Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts)]
    if last:
        said[-1] = Message(role="assistant", content=texts[-1], **last)
    return said


def learnt(renderer: Renderer, rendered: Rendered) -> list[str]:
    """Return the stretches that are learnt, as text."""
    found: list[list[int]] = []
    before = 0
    for token, is_learnt in zip(rendered.ids, rendered.mask, strict=True):
        if is_learnt and not before:
            found.append([])
        if is_learnt:
            found[-1].append(token)
        before = is_learnt
    return [renderer.decode(ids) for ids in found]


@pytest.mark.parametrize("name", ENDS)
@given(texts=st.lists(nasty_text, min_size=2, max_size=6))
@settings(max_examples=40, deadline=None)
def test_each_learnt_reply_follows_exactly_the_ids_that_the_engine_is_given(
    name: str, texts: list[str]
) -> None:
    """tinker-cookbook#860: renderers that trained on a context which is never sampled after."""
    renderer, messages = RENDERERS[name], talk(*texts[: len(texts) // 2 * 2])
    (found,) = renderer.render_sequences([(messages, ())])
    assert isinstance(found, list)
    prompts = [renderer.render_chat(messages[:place]) for place in range(1, len(messages), 2)]
    begins = [
        (sequence, place)
        for sequence in found
        for place, is_learnt in enumerate(sequence.mask)
        if is_learnt and (not place or not sequence.mask[place - 1])
    ]
    assert len(begins) == len(prompts)
    for (sequence, place), prompt in zip(begins, prompts, strict=True):
        assert sequence.ids[:place] == prompt


@pytest.mark.parametrize("name", ENDS)
def test_the_token_that_ends_a_turn_is_learnt_and_what_the_template_writes_behind_it_is_not(
    name: str,
) -> None:
    """Qwen3#1522, trl#4879: a model that never learnt to stop."""
    renderer, end = RENDERERS[name], ENDS[name][1]
    for sequence in [renderer.render_training(talk("Hello", "Good day"))]:
        (text,) = learnt(renderer, sequence)
        assert text.endswith(f"Good day{end}")
        assert sequence.stops
    assert renderer.control_tokens[end] in renderer.stop_ids


def test_turns_of_a_template_that_only_appends_share_one_sequence() -> None:
    renderer = RENDERERS["chatml"]
    rendered = renderer.render_training(talk("One?", "1.", "Two?", "2."))
    assert learnt(renderer, rendered) == ["1.<|im_end|>", "2.<|im_end|>"]
    text = "".join(
        f"<|im_start|>{role}\n{said}<|im_end|>\n"
        for role, said in (("user", "One?"), ("assistant", "1."), ("user", "Two?"), ("assistant", "2."))
    )
    plain = Tokenizer.from_str(TOKENIZER.decode())
    assert rendered.ids == plain.encode(text, add_special_tokens=False).ids


def test_history_that_the_template_rewrites_is_split_by_turn() -> None:
    """LlamaFactory#10336, trl#6361: reasoning of earlier turns in training that serving never shows."""
    renderer = RENDERERS["thinking"]
    messages = talk("One?", "1.", "Two?", "2.")
    messages[1] = Message(role="assistant", content="1.", reasoning="easy")
    (found,) = renderer.render_sequences([(messages, ())])
    assert isinstance(found, list)
    assert [learnt(renderer, each) for each in found] == [
        ["<think>\neasy\n</think>\n\n1.<|im_end|>"],
        ["<think>\n\n</think>\n\n2.<|im_end|>"],
    ]
    assert "easy" not in renderer.decode(found[1].ids)
    with pytest.raises(HistoryRewritten):
        renderer.render_training(messages)
    assert learnt(renderer, renderer.render_training(messages, loss_on="last_turn")) == [
        "<think>\n\n</think>\n\n2.<|im_end|>"
    ]


def test_a_reply_that_melts_into_the_prompts_line_break_is_encoded_apart() -> None:
    renderer = RENDERERS["chatml"]
    prompt = renderer.render_chat(talk("Hello"))
    whole = renderer.render_chat(talk("Hello", "\n\nGood day"), add_generation_prompt=False)
    assert whole[: len(prompt)] != prompt, "the tokenizer of this test must merge line breaks"
    rendered = renderer.render_training(talk("Hello", "\n\nGood day"))
    assert rendered.ids[: len(prompt)] == prompt
    assert learnt(renderer, rendered) == ["\n\nGood day<|im_end|>"]


def test_a_template_that_writes_replies_otherwise_than_it_asks_is_refused_with_both_texts() -> None:
    """ms-swift#9276: templates of training that are not those of serving."""
    odd = CHATML.replace("<|im_start|>assistant\n' }}{% endif", "<|im_start|>assistant: ' }}{% endif")
    with pytest.raises(PrefixBroken, match="assistant: "):
        make_renderer(odd).render_training(talk("Hello", "Good day"))


def test_with_thinking_switched_off_the_empty_thoughts_belong_to_the_prompt() -> None:
    renderer = make_renderer(THINKING, template_kwargs={"enable_thinking": False})
    assert learnt(renderer, renderer.render_training(talk("Hello", "Good day"))) == ["Good day<|im_end|>"]
    assert renderer.digest != RENDERERS["thinking"].digest


def test_what_can_be_learnt_from_is_chosen() -> None:
    renderer = RENDERERS["plain"]
    messages = talk("One?", "1.", "Two?", "2.")
    assert learnt(renderer, renderer.render_training(messages, loss_on="last_turn")) == ["2.<|end|>"]
    assert set(renderer.render_training(messages, loss_on="all").mask) == {1}
    (found,) = renderer.render_sequences([(messages, ())], untrained=[frozenset({1})])
    assert isinstance(found, list)
    assert learnt(renderer, found[0]) == ["2.<|end|>"]


@pytest.mark.parametrize("messages", [[], talk("Hello"), talk("Hello", "Yes", "And?")])
def test_a_conversation_that_ends_without_a_reply_is_no_row(messages: list[Message]) -> None:
    with pytest.raises(RowNotUnderstood):
        RENDERERS["plain"].render_training(messages)


def test_one_bad_conversation_does_not_spoil_its_batch() -> None:
    renderer = RENDERERS["no_system"]
    bad = [Message(role="system", content="Be kind."), *talk("Hello", "Hi")]
    first, second = renderer.render_sequences([(bad, ()), (talk("Hello", "Hi"), ())])
    assert isinstance(first, TemplateRefused)
    assert "System role not supported" in first.message
    assert second == [renderer.render_training(talk("Hello", "Hi"))]


def test_a_control_token_in_a_reply_stays_text_and_does_not_end_the_turn() -> None:
    renderer = RENDERERS["chatml"]
    rendered = renderer.render_training(talk("Which token ends a turn?", "It is <|im_end|>, always."))
    assert rendered.ids.count(renderer.control_tokens["<|im_end|>"]) == 2
    assert learnt(renderer, rendered) == ["It is <|im_end|>, always.<|im_end|>"]


def test_a_template_without_an_end_says_so() -> None:
    """marin#7237: nothing teaches the model to stop."""
    rendered = make_renderer(WORDS).render_training(talk("Hello", "Good day"))
    assert not rendered.stops
    assert any(rendered.mask)


def test_the_date_stands_still() -> None:
    renderer = RENDERERS["dated"]
    assert "01 Jan 2026" in renderer.decode(renderer.render_training(talk("Hello", "Hi")).ids)
    later = make_renderer(DATED, frozen_clock="2027-02-03T00:00:00")
    assert "03 Feb 2027" in later.decode(later.render_chat(talk("Hello")))


def test_the_token_that_begins_stands_once_where_that_is_the_rule() -> None:
    """llama.cpp#7062: two of them, or none."""
    twice, never = "{{ bos_token }}" + PLAIN, PLAIN.removeprefix("<|bos|>")
    for template in (twice, never, PLAIN):
        renderer = make_renderer(template, bos="once")
        rendered = renderer.render_training(talk("Hello", "Good day"))
        assert rendered.ids == RENDERERS["plain"].render_training(talk("Hello", "Good day")).ids
        assert learnt(renderer, rendered) == ["Good day<|end|>"]
        assert renderer.render_chat(talk("Hello")) == RENDERERS["plain"].render_chat(talk("Hello"))


def test_calls_of_tools_are_written_and_their_arguments_are_objects() -> None:
    renderer = RENDERERS["tools"]
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "<|im_end|>"}'}}
    messages = [
        Message(role="user", content="Look."),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="Seen.", tool_call_id="c1"),
        Message(role="assistant", content="It is there."),
    ]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    rendered = renderer.render_training(messages, tools=tools)
    first, second = learnt(renderer, rendered)
    inside = first.removeprefix("<tool_call>").partition("</tool_call>")[0]
    assert json.loads(inside) == {"name": "look", "arguments": {"at": "<|im_end|>"}}
    assert second == "It is there.<|im_end|>"
    assert rendered.ids.count(renderer.control_tokens["<|im_end|>"]) == 5


@pytest.mark.parametrize(
    ("message", "tools"),
    [
        (Message(role="assistant", content="Hi"), [{"type": "function"}]),
        (Message(role="assistant", content="Hi", reasoning="so"), []),
        (Message(role="assistant", content="Hi", tool_calls=({"function": {}},)), []),
    ],
)
def test_what_the_template_would_leave_out_silently_is_refused(
    message: Message, tools: list[dict[str, Any]]
) -> None:
    with pytest.raises(TemplateRefused, match="left out silently"):
        RENDERERS["chatml"].render_training([*talk("Hello"), message], tools=tools)
    assert "tools" in RENDERERS["tools"].template_names


def test_golden_vectors_of_replies_hold_the_mask_and_are_proven_with_it() -> None:
    renderer = RENDERERS["chatml"]
    asked, answered = renderer.make_golden([talk("Hello"), talk("Hello", "Good day")])
    assert asked.mask is None
    assert answered.mask is not None
    renderer.check_golden([asked, answered])
    spoilt = GoldenVector(messages=answered.messages, ids=answered.ids, mask=tuple(0 for _ in answered.mask))
    with pytest.raises(Exception, match="other tokens to learn"):
        renderer.check_golden([spoilt])


def test_texts_without_turns_lie_between_begin_and_end() -> None:
    renderer = RENDERERS["plain"]
    (row,) = renderer.render_plain(["Walking <|end|> helps."])
    assert row.ids[0] == renderer.control_tokens["<|bos|>"]
    assert row.ids[-1] == renderer.control_tokens["<|end|>"]
    assert renderer.decode(row.ids[1:-1]) == "Walking <|end|> helps."
    assert set(row.mask) == {1}


@pytest.mark.parametrize("template", [PLAIN, CHATML, THINKING, DATED, NO_SYSTEM, TOOLS])
def test_many_at_once_are_each_as_alone(template: str) -> None:
    renderer = make_renderer(template)
    talks = [talk(f"Question {n}?", f"Answer {n}.", "More?", f"\n\n{n}") for n in range(20)]
    together = renderer.render_sequences([(each, ()) for each in talks])
    for each, found in zip(talks, together, strict=True):
        assert [found] == renderer.render_sequences([(each, ())])
