"""Reading a streamed reply: moments of text, tokens from usage alone."""

import json

import pytest

from penstock.deploy.load.sending import explain_refusal, judge_reply
from penstock.deploy.load.streams import ReplyReader


def event(**members: object) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


def delta(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 7})
DONE = b"data: [DONE]\n\n"


def test_the_first_token_is_the_first_piece_with_text() -> None:
    """An opening piece that names the role has no text: counting it tells how quickly headers came."""
    reader = ReplyReader()
    reader.feed(event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]), 1.0)
    assert reader.first_s is None
    reader.feed(delta("a"), 2.0)
    reader.feed(delta("b"), 2.5)
    assert reader.first_s == 2.0
    assert reader.gaps_ms == [500.0]


def test_tokens_are_those_of_usage_not_the_number_of_pieces() -> None:
    reader = ReplyReader()
    for piece in (delta("several tokens at once"), delta(" more"), END, USAGE, DONE):
        reader.feed(piece, 1.0)
    assert (reader.n_pieces, reader.completion_tokens, reader.prompt_tokens) == (2, 7, 9)
    assert judge_reply(reader) == ("", "")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_how_a_stream_is_cut_into_reads_changes_nothing(size: int) -> None:
    whole = delta("ü") + delta("b") + END + USAGE + DONE
    reader = ReplyReader()
    for start in range(0, len(whole), size):
        reader.feed(whole[start : start + size], start)
    assert (reader.n_pieces, reader.finish, reader.is_done) == (2, "stop", True)


def test_reasoning_and_tool_calls_are_text_too() -> None:
    for members in ({"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}):
        reader = ReplyReader()
        reader.feed(event(choices=[{"index": 0, "delta": members}]), 1.0)
        assert reader.first_s == 1.0


def test_a_stream_that_ends_early_is_a_failure() -> None:
    """A connection that closes in the middle must not count as a quick reply."""
    reader = ReplyReader()
    reader.feed(delta("half"), 1.0)
    assert judge_reply(reader)[0] == "broken"


def test_an_error_told_in_the_stream_is_a_failure_of_its_kind() -> None:
    reader = ReplyReader()
    reader.feed(delta("half") + event(error={"code": "PS-4701", "message": "gone"}) + DONE, 1.0)
    assert judge_reply(reader) == ("stream PS-4701", "gone")


def test_a_whole_reply_without_any_token_is_a_failure() -> None:
    reader = ReplyReader()
    reader.read_whole(
        json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}).encode()
    )
    assert judge_reply(reader)[0] == "empty"


def test_refusals_are_told_by_status_and_code() -> None:
    body = json.dumps({"error": {"code": "PS-2601", "message": "over the limit"}}).encode()
    assert explain_refusal(429, body) == ("429 PS-2601", "over the limit")
    assert explain_refusal(502, b"<html>") == ("502", "<html>")
