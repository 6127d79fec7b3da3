"""Declarations as files: what they leave out is chosen for their model, and everything that is wrong is told at once."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.apps.declaring import diff_declarations, read_declaration, write_declaration
from penstock.apps.errors import HostRefused, NoSuchApp, WrongDeclaration
from penstock.apps.handbook import declare_handbook
from penstock.apps.service import AppService, Places
from penstock.apps.types import AppDeclaration, declaration_content
from penstock.base.errors import NotFound, PolicyError
from penstock.knowledge.retrieval.filters import read_filter
from penstock.registry.service import Registry
from penstock.spec.knowledge import Condition
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control

TOML = """
name = "helpdesk"
knowledge = "handbook"
model = "gpt-4o-mini"
filters = ["language:en", {type = "eq", key = "team", value = "support"}]
steps = ["rewrite", "retrieve", "filter", "answer", "check"]
citations = "inline"

[rewrite]
model = "small"
timeout_s = 3

[check]
then = "abstain"
min_grounded = 0.7
"""


def read(text: str, file: str = "app.toml") -> AppDeclaration:
    return read_declaration(text, file=file, read_filter=read_filter)


def problems_of(text: str, file: str = "app.toml") -> str:
    with pytest.raises(WrongDeclaration) as raised:
        read(text, file)
    return raised.value.message


# -- files


def test_a_file_of_a_few_lines_declares_an_app() -> None:
    app = read(TOML)
    assert (app.name, app.steps, app.citations) == (
        "helpdesk",
        ("rewrite", "retrieve", "filter", "answer", "check"),
        "inline",
    )
    assert app.filters == [
        Condition(op="is", field="language", value="en"),
        Condition(op="is", field="team", value="support"),
    ]
    assert (app.rewrite.model, app.rewrite.timeout_s, app.check.then) == ("small", 3, "abstain")


def test_yaml_and_json_say_the_same() -> None:
    yaml = "name: helpdesk\nknowledge: handbook\nmodel: big\nrewrite:\n  turns: 2\n"
    told = {"name": "helpdesk", "knowledge": "handbook", "model": "big", "rewrite": {"turns": 2}}
    assert read(yaml, "a.yaml") == read(yaml, "a.yml") == read(json.dumps(told), "a.json")


def test_the_guides_example_declares_an_app() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "apps.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    app = read(example, "support.yaml")
    assert app.steps == ("rewrite", "retrieve", "filter", "answer", "check")
    assert [condition.op for condition in app.filters] == ["any_of"]


def test_three_lines_are_enough_and_follow_a_conversation() -> None:
    app = read('name = "a"\nknowledge = "b"\nmodel = "big"\n')
    assert (app.steps, app.turns, app.prompt) == (("rewrite", "retrieve", "answer"), 6, "instructed")


def test_an_app_on_pocket_is_declared_as_the_handbooks_is() -> None:
    assert read('name = "a"\nknowledge = "b"\nmodel = "pocket"\n') == declare_handbook(
        knowledge="b", name="a"
    )


def test_what_is_written_is_read_back() -> None:
    app = read(TOML)
    assert read(write_declaration(app), "a.json") == app


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('model = "helpdesk"', "model"),
        ('model = "helpdesk@candidate"', "model"),
        ('model = "m"\nanswer_fallback = "helpdesk"', "answer_fallback"),
        ('model = "m"\nfilter = {model = "helpdesk"}', "filter.model"),
        ('model = "m"\ncheck = {fallback = "helpdesk@prod"}', "check.fallback"),
    ],
)
def test_an_app_that_would_ask_itself_is_refused(line: str, field: str) -> None:
    with pytest.raises(WrongDeclaration, match=f"`{field}` is .*the app itself"):
        read('name = "helpdesk"\nknowledge = "handbook"\n' + line)


@pytest.mark.parametrize(
    "line",
    [
        "min_dense_score = 7",
        "min_relative_score = -0.1",
        "temperature = nan",
        "temperature = 11",
        "answer_timeout_s = inf",
        "max_tokens = 999999999",
        "check = {timeout_s = inf}",
    ],
)
def test_a_number_that_makes_no_app_is_refused(line: str) -> None:
    """A dense score over 1 would never answer, and an endless timeout never give up."""
    name = line.rpartition("{")[2].partition(" =")[0]
    with pytest.raises(WrongDeclaration, match=name):
        read(f'name = "helpdesk"\nknowledge = "handbook"\nmodel = "m"\n{line}')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('nam = "a"\n', ["'nam'", "did you mean 'name'", "`name` is missing"][:2]),
        ("", ["`name` is missing", "`knowledge` is missing", "`model` is missing"]),
        (TOML + "timeout = 3\n", ["in [check]", "'timeout', did you mean 'timeout_s'"]),
        ('name = "A b"\nknowledge = "b"\nmodel = "m"\n', ["`name` is 'A b'"]),
        ('name = "a"\nknowledge = "b"\nmodel = "m"\nk = 0\n', ["`k` is 0", "at least 1"]),
        ('name = "a"\nknowledge = "b"\nmodel = "m"\nk = "5"\n', ["`k`", "int"]),
        ('name = "a"\nknowledge = "b"\nmodel = "m"\nprompt = "mine"\n', ["prompt:NAME"]),
        ('name = "a"\nknowledge = "b"\nmodel = "m"\nsteps = ["answer"]\n', ["'retrieve'"]),
        (
            'name = "a"\nknowledge = "b"\nmodel = "m"\nsteps = ["answer", "retrieve"]\n',
            ["in this order"],
        ),
        (
            'name = "a"\nknowledge = "b"\nmodel = "m"\nfilters = "language:"\n[rewrite]\nretries = 9\n',
            ["`filters`", "`rewrite.retries` is 9"],
        ),
        (
            'name = "a"\nknowledge = "b"\nmodel = "m"\nsteps = ["retrieve", "filter", "answer"]\nfilter.kind = "rerank"\n',
            ["needs a route that reranks"],
        ),
        ("name = ", ["cannot be read as toml"]),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong_with_it(text: str, words: list[str]) -> None:
    message = problems_of(text)
    assert message.startswith("app.toml declares no app: ")
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("text", "file"), [("[1]", "a.json"), ("- a", "a.yaml"), ("{", "a.json"), ("a: [", "a.yaml")]
)
def test_what_is_no_table_is_told(text: str, file: str) -> None:
    assert problems_of(text, file)


def test_yaml_makes_no_objects() -> None:
    assert "cannot be read" in problems_of("name: !!python/object/apply:os.system ['true']\n", "a.yaml")


def test_an_app_that_says_nothing_new_is_the_version_it_was() -> None:
    """Members that came later are left out where they are silent: registered apps keep their digests."""
    content = declaration_content(declare_handbook())
    later = {
        "filters",
        "rewrite",
        "expand",
        "filter",
        "check",
        "turns",
        "citations",
        "deadline_s",
        "description",
    }
    assert len(content) == 18
    assert later.isdisjoint(content)
    assert "turns" in declaration_content(read('name = "a"\nknowledge = "b"\nmodel = "m"\n'))


def test_a_difference_names_members_by_their_path() -> None:
    before = read('name = "a"\nknowledge = "b"\nmodel = "m"\n')
    after = read('name = "a"\nknowledge = "b"\nmodel = "n"\n[rewrite]\nturns = 2\n')
    assert diff_declarations(before, after) == [
        {"field": "model", "before": "m", "after": "n"},
        {"field": "rewrite.turns", "before": None, "after": 2},
    ]


# -- as registered things


@pytest.fixture
def service(tmp_path: Path, migrated_sqlite: Path) -> Iterator[AppService]:
    file = tmp_path / "control.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    engine = open_control(f"sqlite:///{file}")

    def variables(reference: str) -> list[str]:
        if reference == "prompt:whole":
            return ["question", "sources"]
        if reference == "prompt:half":
            return ["question"]
        raise NotFound(f"no {reference}")

    places = Places(
        bases=lambda: ["handbook"], routes=lambda: ["gpt-4o-mini", "openai/*"], prompt_variables=variables
    )
    yield AppService(
        Registry(engine, BlobStore(str(tmp_path / "blobs"))), places=places, read_filter=read_filter
    )
    engine.dispose()


def told(**members: Any) -> dict[str, Any]:
    return {"name": "helpdesk", "knowledge": "handbook", "model": "gpt-4o-mini", **members}


def test_the_first_version_answers_and_later_ones_wait_for_a_reason(service: AppService) -> None:
    first = service.create(told(), actor="anna")
    assert (first.version.label, first.is_new, first.version.aliases) == ("helpdesk@1", True, ("prod",))
    again = service.create(told(), actor="anna")
    assert (again.version.label, again.is_new, again.move) == ("helpdesk@1", False, None)
    second = service.create(told(k=7), actor="anna")
    assert (second.version.label, second.version.aliases) == ("helpdesk@2", ())
    third = service.create(told(k=8), actor="anna", reason="finds more")
    assert third.version.aliases == ("prod",)
    assert third.move.reason == "finds more"
    assert [version.number for version in service.list_versions("helpdesk")] == [3, 2, 1]
    assert service.diff("helpdesk@1", "helpdesk")[0] == {"field": "k", "before": 5, "after": 8}


def test_an_alias_moves_with_a_reason_alone(service: AppService) -> None:
    service.create(told(), actor="anna")
    service.create(told(k=7), actor="anna")
    with pytest.raises(PolicyError):
        service.move("helpdesk@2", "prod", actor="anna")
    assert service.move("helpdesk@2", "prod", actor="anna", reason="tried it").to_number == 2
    assert service.move("helpdesk@1", "old", actor="anna").to_number == 1
    assert service.get("helpdesk@old").number == 1


def test_a_deleted_app_is_gone_until_its_alias_is_moved_back(service: AppService) -> None:
    service.create(told(), actor="anna")
    service.delete("helpdesk", actor="anna", reason="nobody asks")
    assert service.list_apps() == []
    with pytest.raises(NoSuchApp):
        service.delete("helpdesk", actor="anna", reason="twice")
    service.move("helpdesk@1", "prod", actor="anna", reason="somebody asks")
    assert [version.label for version in service.list_apps()] == ["helpdesk@1"]


def test_what_an_app_names_and_is_not_there_is_a_warning(service: AppService) -> None:
    _, warnings = service.check(told(knowledge="handbok", model="gpt4", prompt="prompt:half"))
    assert "there is no knowledge base 'handbok', did you mean 'handbook'?" in warnings
    assert any("'gpt4'" in each for each in warnings)
    assert any("prompt:half has no variable 'sources'" in each for each in warnings)
    assert service.check(told(model="openai/gpt-5", prompt="prompt:whole"))[1] == []
    assert service.check(told(prompt="prompt:lost"))[1] == ["there is no prompt:lost"]


def test_an_unknown_app_is_told_with_the_nearest(service: AppService) -> None:
    service.create(told(), actor="anna")
    with pytest.raises(NoSuchApp, match="Did you mean 'helpdesk'"):
        service.get("helpdek")


def test_a_wrong_choice_names_the_nearest_and_all_that_there_are() -> None:
    told = problems_of(TOML.replace('"check"]', '"chek"]'))
    assert "`steps[4]`: Invalid enum value 'chek', did you mean 'check'? (known: rewrite, " in told
    told = problems_of(TOML.replace('"abstain"', '"shout"'))
    assert "`check.then`: Invalid enum value 'shout' (known: mark, abstain)" in told


def test_what_the_gateway_refused_carries_one_code() -> None:
    assert str(HostRefused("The filter ends too early.  [PS-1485]")).count("[PS-") == 1
    assert str(HostRefused("The gateway did not answer in time.")).endswith("[PS-4521]")
