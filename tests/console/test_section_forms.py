"""Forms of providers, routes, limits and prices: everything a person can write has a field, and comes back as written."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from penstock.console.section_fields import flatten, gather
from penstock.console.section_forms import FormGroup, build_form, read_docs
from penstock.deploy.limit_sections import LimitRuleSettings, PriceSettings
from penstock.deploy.objects import SECTIONS
from penstock.deploy.sections import ProviderSettings, RouteSettings

ROUTE: dict[str, Any] = {
    "targets": [
        {"provider": "openai", "model": "gpt-4o-mini", "weight": 3.0},
        {"provider": "backup", "model": "llama", "tier": 1, "timeout_s": 12.5},
    ],
    "kind": "chat",
    "deadline_s": 60.0,
    "retry": {"max_attempts": 4, "on": ["connect", "timeout"], "same_target": False},
    "breaker": {"enabled": False},
    "hedge": {"after_s": 1.5},
    "fallbacks": [{"route": "pocket", "on": ["context-length"]}],
    "cache": {"mode": "exact", "ttl_s": 60, "share_in_flight": True},
    "deprecation": {"since": "2026-01-01"},
    "pins": [{"name": "2026-01", "targets": [{"provider": "openai", "model": "gpt-4o"}], "version": "1"}],
    "cancel_upstream": False,
}


def all_fields(group: FormGroup) -> list[str]:
    inside = [name for each in (*group.groups, *group.rows) for name in all_fields(each)]
    return [each.name for each in group.fields] + inside


def test_a_route_with_everything_comes_back_from_its_form() -> None:
    found = gather(RouteSettings, flatten(ROUTE))
    assert found.errors == {}
    assert found.content == ROUTE


def test_lines_of_names_and_values_and_lists_of_words_come_back() -> None:
    content = {
        "base_url": "https://api.example.com/v1",
        "quirks": ["max_tokens", "no_developer_role"],
        "headers": {"x-team": "search = fast", "x-two": "2"},
        "also": ["responses"],
        "stream_usage": False,
        "timeout_s": 30.0,
    }
    found = gather(ProviderSettings, flatten(content))
    assert (found.errors, found.content) == ({}, content)


@given(
    st.fixed_dictionaries(
        {"targets": st.just([{"provider": "a", "model": "b"}])},
        optional={
            "deadline_s": st.integers(1, 86_400).map(float),
            "balance": st.sampled_from(["weighted", "latency", "cost"]),
            "cancel_upstream": st.booleans(),
            "retry": st.fixed_dictionaries(
                {"max_attempts": st.integers(1, 20)},
                optional={"budget_ratio": st.sampled_from([0.0, 0.25, 1.0])},
            ),
            "fallbacks": st.lists(
                st.fixed_dictionaries({"route": st.sampled_from(["x", "y z/*"])}), min_size=1, max_size=4
            ),
        },
    )
)
def test_what_a_form_shows_is_what_it_says(content: dict[str, Any]) -> None:
    found = gather(RouteSettings, flatten(content))
    assert (found.errors, found.content) == ({}, content)


def test_empty_fields_are_not_written_and_empty_rows_are_left_out() -> None:
    fields = {**flatten(ROUTE), "targets.7.provider": "", "targets.9.fallbacks:": "said", "deadline_s": " "}
    content = gather(RouteSettings, fields).content
    assert len(content["targets"]) == 2
    assert "deadline_s" not in content


def test_mistakes_stand_at_their_field_in_the_row_that_was_filled_in() -> None:
    fields = {
        "targets.0.provider": "openai",
        "targets.0.model": "a",
        "targets.4.model": "b",
        "targets.4.weight": "heavy",
        "deadline_s": "-3",
        "retry.max_attempts": "2.5",
    }
    errors = gather(RouteSettings, fields).errors
    assert set(errors) == {"targets.4.provider", "targets.4.weight", "deadline_s", "retry.max_attempts"}
    assert errors["targets.4.provider"] == "This is needed."
    assert "heavy" in errors["targets.4.weight"]
    form = build_form(RouteSettings, fields, errors)
    (targets,) = [each for each in form.groups if each.name == "targets"]
    assert [row.name for row in targets.rows] == ["targets.0", "targets.4", "targets.5"]
    (weight,) = [each for each in targets.rows[1].fields if each.name.endswith("weight")]
    assert (weight.value, weight.error) == ("heavy", errors["targets.4.weight"])


def test_a_line_without_a_value_is_named() -> None:
    errors = gather(ProviderSettings, {"headers": "x-a = 1\nnonsense"}).errors
    assert errors == {"headers": "Line 2 is not NAME = VALUE."}


def test_money_keeps_its_digits() -> None:
    found = gather(PriceSettings, {"input_uncached": "0.150", "output_text": "1,000"})
    assert found.errors == {}
    section = PriceSettings.model_validate(found.content)
    assert (section.input_uncached, section.output_text) == (Decimal("0.150"), Decimal(1000))


def test_unchosen_faults_are_said_and_default_ones_are_not() -> None:
    base = {"targets.0.provider": "a", "targets.0.model": "b", "retry.on:": "said"}
    default = {f"retry.on:{each}": "on" for each in ("connect", "timeout", "rate-limit", "server-error")}
    assert "retry" not in gather(RouteSettings, {**base, **default}).content
    assert gather(RouteSettings, base).content["retry"] == {"on": []}
    assert gather(RouteSettings, {**base, "retry.on:timeout": "on"}).content["retry"] == {"on": ["timeout"]}


@pytest.mark.parametrize("model", SECTIONS.values())
def test_every_key_of_every_section_has_a_field_with_an_explanation(model: type[BaseModel]) -> None:
    form = build_form(model, {}, {})
    names = {name.partition(".")[0] for name in all_fields(form)}
    assert names == set(model.model_fields)
    assert set(read_docs(model)) >= set(model.model_fields)


def test_needed_choices_have_no_default() -> None:
    form = build_form(LimitRuleSettings, {}, {})
    needed = {each.name for each in form.fields if each.is_required}
    assert needed == {"scope", "unit", "amount", "window"}
