"""Scores on their way: many at once, and a wrong one among good ones."""

import json

import pytest

import penstock
from penstock.spec.score_rules import MAX_NAME
from penstock.traces.scores import MAX_SCORES
from tests.sdk.conftest import Collector, setup

TRACE = "0af7651916cd43dd8448eb211c80319c"


def strict(path: str, body: bytes) -> tuple[int, bytes]:
    """Answer as the control process does: all or none, and never more than its bound."""
    scores = json.loads(body).get("scores", [])
    is_wrong = len(scores) > MAX_SCORES or any(score["name"] == "wrong" for score in scores)
    return (400, b"{}") if is_wrong else (200, b"{}")


def test_thousands_of_scores_in_a_moment_all_arrive(sdk: Collector) -> None:
    sdk.answer = strict
    for number in range(3000):
        penstock.score("ok", number, trace_id=TRACE, identifier=str(number))
    told = penstock.flush()
    assert (told.sent, told.failed) == (3000, 0)
    assert sorted(score["value"] for score in sdk.scores) == list(range(3000))


def test_a_score_that_is_refused_takes_no_other_along(sdk: Collector) -> None:
    sdk.answer = strict
    for number in range(40):
        penstock.score("wrong" if number == 17 else "ok", number, trace_id=TRACE)
    told = penstock.flush()
    assert (told.sent, told.failed) == (39, 1)


def test_a_refusal_that_is_not_about_the_body_is_one_request(sdk: Collector) -> None:
    asked: list[str] = []

    def refuse(path: str, body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return 403, b"{}"

    sdk.answer = refuse
    for number in range(40):
        penstock.score("ok", number, trace_id=TRACE)
    assert penstock.flush().failed == 40
    assert len(asked) <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "n" * (MAX_NAME + 1)},
        {"name": " "},
        {"label": "l" * 1001},
        {"scorer": "s" * 1001},
        {"trace_id": "not hex"},
        {"span_id": "12"},
        {"source": "me"},
    ],
    ids=str,
)
def test_what_could_not_be_stored_is_told_at_once_and_left_out(
    wrong: dict[str, str], sdk: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    penstock.score(**{"name": "n", "value": 1, "trace_id": TRACE, **wrong})  # type: ignore[arg-type]
    penstock.score("good", 1, trace_id=TRACE.upper(), label=5)  # type: ignore[arg-type]
    assert penstock.flush().sent == 1
    (good,) = sdk.scores
    assert (good["name"], good["trace_id"], good["label"]) == ("good", TRACE, "5")
    assert "a score was left out" in caplog.text


def test_without_capture_a_score_says_nothing_of_what_it_judged(collector: Collector, sdk: Collector) -> None:
    setup(collector, capture=False)
    penstock.score("ok", 1, trace_id=TRACE, comment="secret", evidence={"quote": "secret"})
    penstock.flush()
    assert collector.scores
    assert "secret" not in str(collector.requests)


def test_a_redaction_reaches_label_comment_and_evidence(collector: Collector, sdk: Collector) -> None:
    setup(collector, redact=lambda text: text.replace("secret", "#"))
    penstock.score(
        "ok", 1, trace_id=TRACE, label="a secret", comment="secret", evidence={"quote": ["secret"]}
    )
    penstock.flush()
    (score,) = collector.scores
    assert (score["label"], score["comment"], score["evidence"]) == ("a #", "#", {"quote": ["#"]})
