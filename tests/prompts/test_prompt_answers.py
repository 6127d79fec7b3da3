"""Reasoning is taken out of replies and streams, whatever pieces they come in."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.apps.prompt_replies import StrippedStream, strip_reply
from penstock.spec.prompts import ChainOfThought
from penstock.templating.answers import AnswerStream, split_reply

COT = ChainOfThought()
CASES = {
    "think\nAnswer: 4": ("think", "4"),
    "think\n**Answer:** 5": ("think", "5"),
    "think\n## Answer: 6\n": ("think", "6"),
    "so the Answer: 7": ("so the", "7"),
    "no marker": (None, "no marker"),
    "Answer: `x`": ("", "`x`"),
    "": (None, ""),
}


@pytest.mark.parametrize(("text", "parts"), CASES.items())
def test_a_reply_is_taken_apart(text: str, parts: tuple[str | None, str]) -> None:
    split = split_reply(text, COT)
    assert (split.reasoning, split.answer) == parts


def test_the_last_marker_counts() -> None:
    assert split_reply("Answer: 1\nwait\nAnswer: 2", COT).answer == "2"


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 30), max_size=8))
def test_a_stream_gives_the_same_answer_in_any_pieces(text: str, cuts: list[int]) -> None:
    stream = AnswerStream(COT)
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    told = "".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + stream.finish()
    assert told.rstrip() == CASES[text][1]
    assert stream.reasoning == CASES[text][0]


def test_choices_of_a_stream_are_told_apart_and_all_else_stays() -> None:
    stream = StrippedStream(COT)

    def chunk(
        index: int, content: str | None, finish: str | None = None, **delta: object
    ) -> dict[str, object]:
        given = {**({"content": content} if content is not None else {}), **delta}
        return {"id": "c", "choices": [{"index": index, "delta": given, "finish_reason": finish}]}

    assert stream.pass_on(chunk(0, "", role="assistant")) == chunk(0, "", role="assistant")
    assert stream.pass_on(chunk(0, "hm\nAns")) is None
    assert stream.pass_on(chunk(1, "just text")) is None
    assert stream.pass_on(chunk(0, "wer: 4"))["choices"][0]["delta"] == {"content": "4"}
    call = chunk(1, None, tool_calls=[{"id": "t"}])
    assert stream.pass_on(call) == call
    assert stream.pass_on(chunk(1, None, "stop"))["choices"][0]["delta"] == {"content": "just text"}
    usage = {"id": "c", "choices": [], "usage": {"total_tokens": 3}}
    assert stream.pass_on(usage) == usage
    assert stream.reasonings() == ["hm", None]


def test_log_probabilities_of_what_was_taken_out_go_with_it() -> None:
    reply = {
        "choices": [
            {"message": {"content": "hm\nAnswer: 4"}, "logprobs": {"content": []}},
            {"message": {"content": None}},
        ]
    }
    assert strip_reply(reply, COT) == ["hm", None]
    assert reply["choices"][0] == {"message": {"content": "4"}, "logprobs": None}
