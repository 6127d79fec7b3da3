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
    "a long line before\n\n  Answer is\n> *Answer: 8": ("a long line before\n\n  Answer is", "8"),
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


@pytest.mark.parametrize("marker", ["Final\nAnswer:", "=>", "Answer:\n\n"])
@given(st.lists(st.integers(0, 60), max_size=8))
def test_markers_of_any_shape_are_found_in_any_pieces(marker: str, cuts: list[int]) -> None:
    cot = ChainOfThought(answer_marker=marker)
    text = f"Final\nword\n{'x' * 20}\nFinal\n{marker.strip()} 9"
    stream = AnswerStream(cot)
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    told = "".join(stream.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + stream.finish()
    assert (told, stream.reasoning) == ("9", split_reply(text, cot).reasoning)


@pytest.mark.parametrize("token", ["word ", "word\n", "a\n\nb "])
def test_only_what_is_not_over_is_looked_at_again(token: str) -> None:
    stream = AnswerStream(COT)
    looked_at: list[int] = []
    pattern = stream._pattern

    class Counting:
        def match(self, text: str, at: int = 0) -> object:
            looked_at.append(len(text) - at)
            return pattern.match(text, at)

    stream._pattern = Counting()  # type: ignore[assignment]
    n_tokens = 2000
    assert "".join(stream.feed(token) for _ in range(n_tokens)) == ""
    assert sum(looked_at) < 40 * n_tokens
    assert stream.feed("\nAnswer: 4") == "4"
    assert stream.reasoning == (token * n_tokens).rstrip()


def test_what_is_held_back_is_told_when_a_stream_ends_without_a_word() -> None:
    stream = StrippedStream(COT)
    chunk = {
        "id": "c",
        "model": "m",
        "usage": None,
        "choices": [{"index": 0, "delta": {"content": "so Answer: 4"}}],
    }
    assert stream.pass_on(chunk) is None
    rest = stream.finish()
    assert rest == {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": None}],
    }
    assert stream.reasonings() == ["so"]
    assert stream.finish() is None
