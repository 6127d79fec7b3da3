"""Runs of tuning as pages: the list, one run with its curves, runs side by side, and what can be done to them."""

import re

import pytest

from penstock.console.pages.tuning_new import lay_plan
from penstock.console.prompt_pieces import end_of_prompt, split_prompt
from penstock.console.step_plots import Pin, StepSeries, draw_steps, format_figure, scale_of_shares
from penstock.tuning.runs.types import CurvePoint, PlanFinding, RunPlan
from tests.console.conftest import make_app, sign_in
from tests.console.test_dashboard_pages import form_token
from tests.console.test_evaluation_pages import text_of
from tests.fixtures.adapted import DONE, FAILED, REFUSED, RUNNING, Adapted, adapted
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished

__all__ = ["adapted"]


@pytest.fixture(scope="module")
def client(adapted: Adapted) -> AsgiClient:
    return sign_in(AsgiClient(make_app(adapted.found)), adapted.found.owner_key)


def test_the_list_says_of_each_run_what_it_is_made_of_and_how_it_stands(client: AsgiClient) -> None:
    reply = client.get("/tuning")
    text = text_of(reply.text)
    assert reply.status == 200
    assert "small@1 → small@2" in text
    assert "loss 0.0312" in text
    assert "nan loss The loss of step 61 is not a number." in text
    assert "40 %" in text
    assert "style=" not in reply.text  # the policy of the console forbids it


def test_the_list_is_narrowed_by_state_method_and_name(client: AsgiClient) -> None:
    assert client.get("/tuning?state=running").text.count('name="ids"') == 1
    assert client.get("/tuning?name=handbook-hot").text.count('name="ids"') == 1
    assert "Nothing matches" in client.get("/tuning?method=kto").text


def test_a_home_without_runs_says_what_to_type(unfurnished: Furnished) -> None:
    visitor = sign_in(AsgiClient(make_app(unfurnished)), unfurnished.owner_key)
    assert "penstock tune init lora" in visitor.get("/tuning").text


def test_a_run_tells_gain_curves_replies_preflight_plan_and_what_it_was_frozen_to(client: AsgiClient) -> None:
    reply = client.get(f"/tuning/{DONE}")
    text = text_of(reply.text)
    assert reply.status == 200
    for part in (
        "LoRA of model:small@1 on dataset:handbook-train@1; 200 of 200 steps in 4 min 50 s",
        "2.453 before training",
        "best, step 150",
        "Held-out token accuracy",
        "Step 150 = reference",
        "duplicates",
        "Rows 3, 17, 40 and 11 more",
        "torch 2.13.0",
        "train.batch_size",
        "loading the base",
    ):
        assert part in text, part
    assert 'href="/models/small/2"' in reply.text
    assert 'data-run-final="yes"' in reply.text
    assert "style=" not in reply.text


def test_only_checkpoints_that_are_still_there_are_shown_as_such(client: AsgiClient) -> None:
    rows = re.findall(
        r"<tr[^>]*>.*?</tr>", client.get(f"/tuning/{DONE}").text.partition('id="checkpoints"')[2]
    )
    kept = [row for row in rows[:5] if "removed since" not in row and "best" in row]
    assert len(kept) == 1


def test_a_page_asks_again_only_for_what_came_behind_the_last_event(client: AsgiClient) -> None:
    page = client.get(f"/tuning/{RUNNING}").text
    after, seen = re.findall(r'data-after="(\d+)" data-seen="(\d+)" data-run-final="no"', page)[0]
    assert client.get(f"/tuning/{RUNNING}/live?after={after}&seen={seen}").status == 204
    first = client.get(f"/tuning/{RUNNING}/live?after=0&seen={seen}")
    assert first.status == 200
    assert "<html" not in first.text
    assert client.get(f"/tuning/{RUNNING}/live?after={after}&seen=1").status == 200


def test_a_failed_run_says_whose_fault_it_was_and_that_it_goes_on_from_a_checkpoint(
    client: AsgiClient,
) -> None:
    text = text_of(client.get(f"/tuning/{FAILED}").text)
    assert "The loss was no number any more." in text
    assert "“Resume” goes on from there" in text
    refused = text_of(client.get(f"/tuning/{REFUSED}").text)
    assert "refused empty-mask 40 rows" in refused
    assert "Rows 1, 2, 3 and 37 more" in refused


def test_runs_lie_beside_each_other_with_what_differs_in_their_recipes(client: AsgiClient) -> None:
    text = text_of(client.get(f"/tuning/compare?ids={DONE}&ids={RUNNING}").text)
    assert "train.lr 0.003 0.0005" in text
    assert "held-out loss, best" in text
    assert client.get(f"/tuning/compare?ids={DONE}").status == 400
    assert client.get("/tuning/compare?ids=nobody,nothing").status == 404


def test_a_run_is_deleted_only_with_the_token_of_the_page_and_the_permission(
    client: AsgiClient, adapted: Adapted
) -> None:
    assert client.post_form(f"/tuning/{REFUSED}/delete", {}).status == 403
    token = form_token(client, f"/tuning/{REFUSED}")
    reply = client.post_form(f"/tuning/{DONE}/resume", {"csrf_token": token})
    assert "is+done" in reply.headers["location"]
    reply = client.post_form(f"/tuning/{REFUSED}/delete", {"csrf_token": token})
    assert reply.headers["location"].startswith("/tuning?notice=Deleted")
    assert client.get(f"/tuning/{REFUSED}").status == 404


def test_prompts_of_samples_are_read_without_control_tokens(client: AsgiClient) -> None:
    text = client.get(f"/tuning/{DONE}").text
    assert 'class="prompt-end">[1] Most adults need' in text
    assert '<span class="control">&lt;|end|&gt;</span>' in text


def test_evaluations_are_drawn_at_their_steps_and_shares_up_to_one() -> None:
    points = [CurvePoint(step=0, value=0.5), CurvePoint(step=50, value=0.75), CurvePoint(step=100, value=0.7)]
    series = [StepSeries(name="accuracy", points=points, tone="1")]
    pin = Pin(name="best", step=50, value=0.75, tone="2")
    plot = draw_steps(series, title="Accuracy", figure="token_accuracy", end=200, pin=pin)
    assert plot.lines[0].path == "M0.00 100.00L25.00 50.00L50.00 60.00"
    assert plot.lines[1].dots == "M25.00 50.00L25.00 50.00"
    assert (plot.bottom, plot.middle, plot.top) == ("50.0 %, not 0", "75.0 %", "100.0 %")
    assert draw_steps([], title="Loss", figure="loss", end=0, empty="none").empty == "none"


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.984, 0.9861), (0.98, 0.99)),
        ((0.9,), (0.9, 0.91)),
        ((0.995, 1.0), (0.99, 1.0)),
        ((0.71, 0.79), (0.7, 0.8)),
        ((0.2, 0.9), (0.0, 1.0)),
        ((0.0, 0.003), (0.0, 0.01)),
        ((), (0.0, 1.0)),
        ((-0.1, 0.1), (0.0, 1.0)),
    ],
)
def test_shares_that_differ_by_little_are_seen_to_differ(
    values: tuple[float, ...], scale: tuple[float, float]
) -> None:
    assert scale_of_shares(values) == scale


@pytest.mark.parametrize(
    ("prompt", "ending"),
    [
        ("<|bos|><|system|>Be kind.<|end|><|user|>How long?<|end|><|assistant|>", "How long?"),
        ("<|im_start|>user\nHow long?<|im_end|>\n<|im_start|>assistant\n", "How long?"),
        (
            "<|start_header_id|>user<|end_header_id|>\n\nHow long?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            "How long?",
        ),
        ("<bos><start_of_turn>user\nHow long?<end_of_turn>\n<start_of_turn>model\n", "How long?"),
        ("<s>[INST] How long? [/INST]", "How long?"),
        ("a < b |> c", "a < b |> c"),
        ("user interfaces", "user interfaces"),
        ("<|bos|>", ""),
    ],
)
def test_a_prompt_is_shown_without_the_control_tokens_of_its_template(prompt: str, ending: str) -> None:
    pieces = split_prompt(prompt)
    assert "".join(piece.text for piece in pieces) == prompt
    assert end_of_prompt(pieces) == ending


def test_of_a_long_prompt_the_end_is_shown() -> None:
    assert end_of_prompt(split_prompt("<|user|>" + "a" * 200 + " end<|end|>")) == f"… {'a' * 136} end"


@pytest.mark.parametrize(
    ("figure", "value", "told"),
    [
        ("loss", 0.0312, "0.0312"),
        ("lr", 0.0000456, "4.6e-05"),
        ("exact_match", 0.5, "50.0 %"),
        ("tokens_per_s", 1382.4, "1,382/s"),
        ("loss", None, "–"),
    ],
)
def test_figures_read_with_their_unit(figure: str, value: float | None, told: str) -> None:
    assert format_figure(figure, value) == told


def test_a_recipe_begins_with_a_template_or_with_that_of_a_run(client: AsgiClient) -> None:
    page = client.get("/tuning/new?method=dpo&base=model:small@2").text
    assert "method = &#34;dpo&#34;" in page
    assert "model = &#34;model:small@2&#34;" in page
    like = client.get(f"/tuning/new?like={DONE}").text
    assert "lr = 0.003" in like
    assert 'name="step" value="start"' not in like  # planned first


def test_a_recipe_is_checked_before_it_can_be_started(client: AsgiClient) -> None:
    token = {"csrf_token": form_token(client, "/tuning/new")}
    reply = client.post_form(
        "/tuning/new", token | {"recipe": 'name = "x"\nmethod = "nonsense"\n', "step": "plan"}
    )
    assert reply.status == 400
    assert "Nothing was changed." in reply.text
    recipe = 'name = "x"\nmethod = "lora"\n[base]\nmodel = "model:nobody"\n[data]\ntrain = "dataset:none"\n'
    recipe += '[output]\nname = "x"\n'
    reply = client.post_form("/tuning/new", token | {"recipe": recipe, "step": "start"})
    assert reply.status in {400, 404}
    assert "model:nobody" in reply.text


def test_a_plan_shows_refusals_first_and_leaves_out_what_is_unknown() -> None:
    plan = RunPlan(
        recipe={},
        n_parameters=3_672_320,
        n_trained=98_304,
        n_rows=100,
        n_heldout=5,
        n_tokens=2_000,
        n_steps=50,
        memory=[],
        memory_bytes=900_000_000,
        disk_bytes=None,
        tokens_per_s=1200.0,
        seconds=12.0,
        time_basis="estimated",
        cost_usd=None,
        machine_usd=None,
        device="cpu",
        findings=[PlanFinding(code="slow", severity="warn", message="It takes long.")],
        preflight={"findings": [{"code": "empty-mask", "severity": "refuse", "message": "3 rows."}]},
    )
    told = lay_plan(plan)
    assert told.is_refused
    assert [each["code"] for each in told.findings] == ["empty-mask", "slow"]
    assert ("Time", "12.00 s", "by arithmetic alone") in told.facts
    assert "Disk" not in {name for name, _, _ in told.facts}
