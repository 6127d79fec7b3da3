"""Evaluations, comparisons, experiments, gates and judges as pages, over what the real services made."""

import re
import tomllib
from urllib.parse import unquote_plus

import msgspec
import pytest

from penstock.base.errors import InvalidInput
from penstock.console.evaluation_forms import EvaluationDraft, draft_of, read_draft, read_scorers, to_spec
from penstock.console.judge_lines import read_answers, to_label
from penstock.console.pages.experiments import EXAMPLE_FILE as EXPERIMENT_FILE
from penstock.console.pages.gates import EXAMPLE_FILE as GATE_FILE
from penstock.console.scatters import draw_scatter
from penstock.evals.gates.files import read_gate
from penstock.evals.types import ExperimentSpec
from penstock.spec.evaluations import EvaluationSpec, ScorerSpec, TargetSpec
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.evaluated import EvaluatedHouse
from tests.fixtures.furnished import Furnished

START = {"dataset": "questions", "target": "pocket", "use:token_f1": "on", "repeats": "2", "usd": "1,50"}


@pytest.fixture(scope="module")
def client(evaluated: EvaluatedHouse) -> AsgiClient:
    return sign_in(AsgiClient(make_app(evaluated.found)), evaluated.found.owner_key)


def text_of(html: str) -> str:
    """Return the words of a page, tags taken out."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.partition("<main")[2]))


def test_the_list_shows_each_main_score_with_interval_coverage_and_cost(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    reply = client.get("/evaluations")
    assert reply.status == 200
    row = reply.text.partition(f'data-id="{evaluated.made.strong}"')[2].partition("</tr>")[0]
    assert "model:pocket@2" in row
    assert 'class="interval-mark' in row
    assert re.search(r"0\.\d{3} to 0\.\d{3}", row)
    assert "calls of unknown cost are left out" in row
    assert "eval-running" in reply.text


def test_the_list_is_narrowed_by_target_dataset_tag_and_state(client: AsgiClient) -> None:
    assert client.get("/evaluations?target=model:pocket@1").text.count("data-id=") == 1
    assert client.get("/evaluations?dataset=questions&tag=nightly").text.count("data-id=") == 1
    assert client.get("/evaluations?state=running").text.count("data-id=") == 1
    assert "Nothing matches" in client.get("/evaluations?target=nobody").text


def test_an_evaluation_tells_its_figures_parts_failures_and_cases(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    reply = client.get(f"/evaluations/{evaluated.made.strong}")
    text = text_of(reply.text)
    assert reply.status == 200
    for part in (
        "token_f1",
        "split=test",
        "tag=medical",
        "PS-4503",
        "clustered by",
        "72 × 2 repeats",
        "latency_ms",
    ):
        assert part in text, part
    assert "50 of 72 shown" in text
    assert "style=" not in reply.text  # the policy of the console forbids it


def test_cases_are_narrowed_sorted_and_paged_by_the_url(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    path = f"/evaluations/{evaluated.made.weak}"
    assert "cursor=50" in client.get(path).text
    worst = client.get(f"{path}?sort=score&score=token_f1").text
    assert worst.index("data-panel") < len(worst)
    only = text_of(client.get(f"{path}?text=seawater&slice=split%3Dtest").text)
    assert "match" in only
    assert "rice" not in only
    low = client.get(f"{path}?score=token_f1&low=2")
    assert "No case matches" in low.text
    assert client.get(f"{path}?low=much").status == 400


def test_one_case_shows_what_was_asked_expected_and_answered_with_scores_and_trace(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    path = f"/evaluations/{evaluated.made.strong}"
    fragment = client.get(f"{path}/case?case=q001").text
    assert "<html" not in fragment
    text = re.sub(r"<[^>]+>", " ", fragment)
    for part in ("seawater", "Answered, repeat 1 of 2", "token_f1@", "Passages that were found", "article-0"):
        assert part in text, part
    assert "/traces/" in fragment
    assert "only-added" in fragment
    whole = client.get(f"{path}?case=q001").text
    assert 'aria-selected="true"' in whole
    assert client.get(f"{path}/case?case=nobody").status == 404


def test_a_histogram_leads_to_the_cases_in_each_bar(client: AsgiClient, evaluated: EvaluatedHouse) -> None:
    path = f"/evaluations/{evaluated.made.weak}"
    drawn = client.get(f"{path}/histogram?score=token_f1").text
    links = re.findall(r'href="([^"]+)" aria-label="[^"]*: (\d+) case', drawn)
    assert sum(int(count) for _, count in links) == 70
    href, count = links[0]
    assert f"{count} match" in text_of(client.get(href.replace("&amp;", "&").partition("#")[0]).text)


def test_what_runs_says_how_far_it_is_and_asks_for_itself(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    path = f"/evaluations/{evaluated.made.running}"
    assert f'data-live="{path}/progress"' in client.get(path).text
    progress = client.get(f"{path}/progress").text
    assert 'data-final="no"' in progress
    assert "of 72" in text_of("<main" + progress)


def test_a_comparison_reads_as_sentences_and_shows_both_answers(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    pair = f"a={evaluated.made.weak}&b={evaluated.made.strong}"
    reply = client.get(f"/evaluations/compare?{pair}")
    text = text_of(reply.text)
    assert reply.status == 200
    assert re.search(
        r"model:pocket@2 beats model:pocket@1 in token_f1 by \d+\.\d points \(95 % interval", text
    )
    assert "paired cases" in text
    assert "only-removed" in reply.text
    better = client.get(f"/evaluations/compare?{pair}&change=improved")
    shown = int(re.search(r"of (\d+) shown", text_of(better.text)).group(1))  # type: ignore[union-attr]
    assert f"improved {shown} " in text
    assert client.get(f"/evaluations/compare?{pair}&change=regressed&slice=split%3Dtest").status == 200


def test_a_comparison_asks_for_the_side_that_is_missing(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    text = client.get(f"/evaluations/compare?a={evaluated.made.weak}").text
    assert f'<option value="{evaluated.made.strong}"' in text
    assert "Candidate" in client.get("/evaluations/compare").text


def test_an_experiment_shows_its_grid_leaderboard_and_whether_the_best_is_certain(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    assert "tone" in client.get("/experiments").text
    reply = client.get(f"/experiments/{evaluated.made.experiment}")
    text = text_of(reply.text)
    for part in (
        "model pocket",
        "temperature",
        "Leaderboard",
        "Quality for its cost",
        "Quality for its time",
        "on it",
    ):
        assert part in text, part
    assert ("is-best" in reply.text) != ("cannot be told apart yet" in text)


def test_a_passed_gate_may_move_an_alias_and_any_other_may_not(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    passed, undecided = evaluated.made.passed, evaluated.made.undecided
    assert (passed.verdict, undecided.verdict) == ("pass", "undecided")
    listed = client.get("/gates").text
    assert "verdict-pass" in listed
    assert "verdict-undecided" in listed
    page = client.get(f"/gates/{undecided.id}").text
    assert "button disabled" in page
    assert 'class="next"' in page
    good = client.get(f"/gates/{passed.id}").text
    assert "Move to version 2" in good
    assert "button disabled" not in good
    form = {"csrf_token": form_token(client, f"/gates/{passed.id}"), "alias": "candidate", "reason": ""}
    moved = client.post_form(f"/gates/{passed.id}/move", form)
    assert moved.status == 303
    registry = evaluated.found.services.registry
    assert registry.aliases("model", "pocket")["candidate"] == 2
    evidence = registry.history("model", "pocket", limit=1)[0].evidence
    assert evidence is not None
    assert evidence["gate"] == passed.id


def test_a_calibration_tells_agreement_confusion_and_disagreements(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    listed = text_of(client.get("/judges").text)
    assert "Held against people" in listed
    assert "rubric" in listed
    text = text_of(client.get(f"/judges/calibrations/{evaluated.made.calibration}").text)
    for part in (
        "Agreement",
        "Sensitivity",
        "judge: yes",
        "Kappa at other shares of yes",
        "Where they disagree",
    ):
        assert part in text, part
    ranked = text_of(client.get("/judges/labels?name=correct").text)
    assert "take this" in ranked
    assert client.get("/judges/labels?name=nothing").status == 404


def test_outputs_are_labelled_one_after_the_other(client: AsgiClient, evaluated: EvaluatedHouse) -> None:
    path = f"/judges/label?evaluation={evaluated.made.weak}&name=polite"
    page = client.get(path).text
    first = re.search(r'name="case" value="([^"]+)"', page)
    assert first is not None
    form = {
        "csrf_token": form_token(client, path),
        "name": "polite",
        "evaluation": evaluated.made.weak,
        "case": first.group(1),
        "repeat": "0",
        "drawn": "random",
        "answer": "no",
    }
    assert client.post_form("/judges/label", form, accept="application/json").status == 204
    assert client.post_form("/judges/label", {**form, "answer": ""}).status == 400
    assert f'name="case" value="{first.group(1)}"' not in client.get(path).text
    found = next(each for each in evaluated.found.services.judges.labels.sets() if each.name == "polite")
    assert (found.n_items, found.n_random) == (1, 1)
    assert 'value="1,2,3,4,5"' in client.get("/judges/label").text


def test_the_first_day_says_what_to_run(unfurnished: Furnished) -> None:
    client = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    for path, told in (
        ("/evaluations", "penstock eval run"),
        ("/experiments", "penstock experiment run"),
        ("/gates", "penstock gate run"),
        ("/judges", "penstock judge calibrate"),
        ("/judges/label", "nothing to label yet"),
        ("/evaluations/compare", "Nothing to compare"),
    ):
        reply = client.get(path)
        assert (reply.status, told in reply.text) == (200, True), path


def test_the_examples_of_empty_pages_can_be_read() -> None:
    assert read_gate(GATE_FILE).rules[0].measure == "token_f1"
    assert msgspec.convert(tomllib.loads(EXPERIMENT_FILE), ExperimentSpec).parameters == {
        "temperature": [0, 0.7]
    }


def test_the_form_plans_and_says_what_is_wrong_without_losing_anything(client: AsgiClient) -> None:
    token = form_token(client, "/evaluations/new")
    plan = client.post_form("/evaluations/new", {**START, "csrf_token": token, "step": "plan"})
    assert plan.status == 200, text_of(plan.text)
    assert "What this would do" in plan.text
    assert 'value="1.50"' in plan.text or 'value="1,50"' in plan.text
    for wrong, told in (
        ({"repeats": "often"}, "Repeats must be a whole number"),
        ({"usd": "free"}, "amount in dollars"),
        ({"parameters": "{"}, "no JSON"),
        ({"dataset": ""}, "needs a dataset"),
        ({"scorers": "token_f1 {"}, "Line 2 of the scorers"),
        ({"dataset": "nothing-here"}, "nothing-here"),
    ):
        reply = client.post_form("/evaluations/new", {**START, **wrong, "csrf_token": token, "step": "start"})
        assert (400 <= reply.status < 500, told in text_of(reply.text)) == (True, True), (
            wrong,
            text_of(reply.text),
        )
        assert 'name="use:token_f1" checked' in reply.text


def test_a_specification_goes_through_its_form_unchanged() -> None:
    spec = EvaluationSpec(
        name="again",
        target=TargetSpec(model="pocket", parameters={"temperature": 0}),
        dataset="dataset:questions@1",
        where={"split": "test"},
        limit=50,
        scorers=[
            ScorerSpec(scorer="token_f1"),
            ScorerSpec(scorer="numeric", name="near", parameters={"tolerance": 0.1}),
            ScorerSpec(scorer="rubric", parameters={"items": ["a {b}"]}, n_samples=3),
        ],
        repeats=3,
        seed=4,
        slices=["split"],
        tags=["nightly"],
    )
    assert to_spec(draft_of(spec)) == spec
    ticked = read_draft({"use:exact": "on", "scorers": "exact\ntoken_f1"})
    assert ticked.scorers == "exact\ntoken_f1"
    again = read_draft({"use:exact": "on", "use:token_f1": "on", "first": "token_f1"})
    assert again.scorers == "token_f1\nexact"  # the main score stays the main one
    assert to_spec(EvaluationDraft(target="eval:eval_1", scorers="exact")).target.outputs == "eval:eval_1"
    with pytest.raises(InvalidInput, match="at least one scorer"):
        read_scorers(" \n")


def test_answers_are_read_as_values_or_words() -> None:
    assert [each.key for each in read_answers("good, fair,good, poor")] == ["1", "2", "3"]
    assert [dict(to_label(word)) for word in ("yes", "no", "3", "fair")] == [
        {"value": 1.0},
        {"value": 0.0},
        {"value": 3.0},
        {"label": "fair"},
    ]


def test_a_leaderboard_without_costs_draws_no_scatter(evaluated: EvaluatedHouse) -> None:
    rows = evaluated.found.services.experiments.leaderboard(evaluated.made.experiment).rows
    drawn = draw_scatter(rows, title="t", axis="a", value_of=lambda row: row.p50_latency_ms, say=str)
    assert drawn is not None
    assert len(drawn.dots) == 4
    assert draw_scatter(rows, title="t", axis="a", value_of=lambda row: None, say=str) is None


def test_stopping_resuming_scoring_again_and_deleting_answer_with_what_happened(
    client: AsgiClient, evaluated: EvaluatedHouse
) -> None:
    path = f"/evaluations/{evaluated.made.running}"
    token = {"csrf_token": form_token(client, path)}

    def act(verb: str, **fields: str) -> str:
        reply = client.post_form(f"{path}/{verb}", {**token, **fields})
        assert reply.status == 303
        return unquote_plus(reply.headers["location"])

    assert "is running" in act("delete")
    act("stop")
    assert evaluated.found.services.evaluations.get(evaluated.made.running).state == "stopped"
    assert "only there it goes on" in act("resume", usd="2")
    assert "no-such-scorer" in act("rescore", scorers="no-such-scorer", mode="new")
    assert act("delete").startswith("/evaluations?notice=")
    assert client.get(path).status == 404
