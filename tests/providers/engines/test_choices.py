"""A reply held to given texts is one of them, whatever the model would rather say and whatever the texts hold."""

from collections.abc import Iterator, Sequence

import pytest

from penstock.base.errors import InvalidInput
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.choices import (
    MAX_CHOICES,
    bias_first_tokens,
    read_choice_bias,
    read_choices,
    write_grammar,
)
from penstock.providers.engines.errors import UnsupportedParameter
from tests.providers.engines.test_engine_app import HELLO, KEY, RunningEngine, host, post
from tests.tuning.tiny_models import make_llama

AWKWARD = ['say "no" \\ root ::= [a-z]', "tab\tand\nline", "Über – 日本 🙂", "[2] Walk every day."]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    folder = tmp_path_factory.mktemp("choices")
    running = RunningEngine(EngineApp([host(make_llama(folder), "tiny", "chat")], internal_key=KEY))
    yield running
    running.stop()


@pytest.mark.engine
@pytest.mark.parametrize("seed", range(6))
async def test_a_reply_is_exactly_one_of_the_choices(engine: RunningEngine, seed: int) -> None:
    body = {"model": "tiny", "messages": HELLO, "temperature": 1.5, "seed": seed, "max_tokens": 120}
    status, reply = await post(
        engine, "/v1/chat/completions", body | {"structured_outputs": {"choice": AWKWARD}}
    )
    assert status == 200
    assert reply["choices"][0]["message"]["content"] in AWKWARD
    assert reply["choices"][0]["finish_reason"] == "stop"


@pytest.mark.engine
@pytest.mark.parametrize("text", AWKWARD)
async def test_a_single_choice_comes_out_byte_for_byte(engine: RunningEngine, text: str) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 120, "structured_outputs": {"choice": [text]}}
    _, reply = await post(engine, "/v1/chat/completions", body)
    assert reply["choices"][0]["message"]["content"] == text


@pytest.mark.engine
async def test_choices_and_a_reply_format_exclude_each_other(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "structured_outputs": {"choice": ["a"]}}
    status, reply = await post(
        engine, "/v1/chat/completions", body | {"response_format": {"type": "json_object"}}
    )
    assert status == 400
    assert "exclude" in reply["error"]["message"]


@pytest.mark.parametrize(
    "wanted", [{"choice": []}, {"choice": [""]}, {"choice": "a"}, {"choice": ["x"] * (MAX_CHOICES + 1)}]
)
def test_choices_out_of_bounds_are_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        read_choices(wanted)


def test_other_constraints_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter, match="regex"):
        read_choices({"regex": "a+"})


def test_equal_choices_count_once() -> None:
    assert read_choices({"choice": ["a", "b", "a"]}) == ("a", "b")
    assert write_grammar(["a", 'b"']) == 'root ::= "a" | "b\\""'


@pytest.mark.engine
async def test_a_bias_decides_between_choices(engine: RunningEngine) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 60}
    for favoured in ("Walk", "every"):
        wanted = {"choice": ["Walk", "every"], "choice_bias": {favoured: 60.0}}
        _, reply = await post(engine, "/v1/chat/completions", body | {"structured_outputs": wanted})
        assert reply["choices"][0]["message"]["content"] == favoured


@pytest.mark.parametrize("bias", [{"other": 1.0}, {"a": 1e9}, {"a": "much"}, {"a": True}, [1.0]])
def test_a_bias_that_makes_no_sense_is_refused(bias: object) -> None:
    with pytest.raises(InvalidInput, match="choice_bias"):
        read_choice_bias({"choice": ["a", "b"], "choice_bias": bias}, ("a", "b"))


def test_a_bias_falls_on_the_first_token_behind_those_the_tokenizer_adds() -> None:
    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [[1, *map(ord, text), 2] for text in texts]

    assert bias_first_tokens(["ab", "c"], {"c": -1.5}, encode) == ((ord("c"), -1.5),)
    with pytest.raises(InvalidInput, match="begins like"):
        bias_first_tokens(["ab", "ac"], {"ac": -1.5}, encode)
