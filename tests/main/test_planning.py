"""Providers and routes from settings, environment and registry."""

from pathlib import Path
from typing import Any

import pytest

from penstock.deploy.objects import StoredObject
from penstock.deploy.snapshots import build_snapshot
from penstock.main.errors import SettingsInvalid
from penstock.main.found_providers import local_url
from penstock.main.instance import Addresses
from penstock.main.planning import Plan, plan
from penstock.main.settings import parse_settings
from penstock.registry.types import Version
from penstock.spec.routes import Provider, Route
from tests.deploy.deployments.test_deployment_rows import live


def planned(text: str = "", environ: dict[str, str] | None = None, **rows: Any) -> Plan:
    file = parse_settings(text.encode(), path=Path("penstock.toml"))
    made = plan(file, environ or {}, Addresses(engine_port=1234), **rows)
    build_snapshot(providers=made.providers, routes=made.routes, keys=())  # every plan must be publishable
    return made


def provider(made: Plan, name: str) -> Provider:
    return next(each for each in made.providers if each.name == name)


def route(made: Plan, name: str) -> Route:
    return next(each for each in made.routes if each.name == name)


def version(asset_kind: str, name: str, **content: object) -> Version:
    return Version(
        kind=asset_kind,  # type: ignore[arg-type]
        name=name,
        number=2,
        digest="sha256:" + "ab" * 32,
        content=dict(content),
        artefacts={},
        parents=(),
        created_ns=1,
        note="",
    )


def test_without_settings_there_are_the_engine_and_the_apps_on_loopback() -> None:
    made = planned()
    assert {each.name: each.base_url for each in made.providers} == {
        "engine": "http://127.0.0.1:1234/v1",
        "apps": "http://127.0.0.1:4602/v1",
    }
    assert all(each.local for each in made.providers)
    assert [each.name for each in made.routes] == ["lexical"]


def test_models_and_apps_are_routes_with_their_version() -> None:
    made = planned(
        models=[version("model", "pocket", kind="chat"), version("model", "minilm", kind="embedding")],
        apps=[version("app", "handbook")],
    )
    assert {each.name: (each.targets[0].provider, each.kind) for each in made.routes} == {
        "lexical": ("engine", "embedding"),
        "pocket": ("engine", "chat"),
        "minilm": ("engine", "embedding"),
        "handbook": ("apps", "chat"),
        "model:pocket": ("engine", "chat"),
        "model:minilm": ("engine", "embedding"),
    }
    (pin,) = route(made, "model:pocket").pins
    assert (pin.name, pin.versions) == ("2", {"model:pocket": "2@sha256:abababababab"})
    assert route(made, "pocket").version == "model:pocket@2 sha256:abababababab"
    assert route(made, "handbook").versions == {"app:handbook": "2@sha256:abababababab"}


def test_the_route_that_searches_a_base_says_what_the_base_holds() -> None:
    """Kept answers of apps go by it: an ingest, a switch or a rollback changes it."""
    made = planned(bases=[version("knowledge", "handbook")])
    assert route(made, "knowledge:handbook").holds == "2@sha256:abababababab"


def test_the_documented_settings_make_a_route_to_the_named_provider() -> None:
    made = planned(
        """
[providers.local]
dialect = "openai"
base_url = "http://127.0.0.1:9100/v1"
api_key_env = "LOCAL_KEY"
[routes."gpt-4o-mini"]
targets = [{ provider = "local", model = "gpt-4o-mini", weight = 1 }]
"""
    )
    assert provider(made, "local").api_key_env == "LOCAL_KEY"
    assert provider(made, "local").local is False
    assert route(made, "gpt-4o-mini").targets[0].provider == "local"
    assert made.origins["local"] == "settings"


def test_a_provider_without_a_key_is_called_without_one() -> None:
    made = planned('[providers.local]\nbase_url = "http://127.0.0.1:9100/v1"')
    assert provider(made, "local").auth == "none"


def test_hosted_providers_are_found_by_their_usual_variable() -> None:
    made = planned(environ={"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": ""})
    assert made.origins == {"openai": "environment", "engine": "built in", "apps": "built in"}
    assert route(made, "openai/*").targets[0].model == "*"
    assert "sk-x" not in repr(made)


def test_local_servers_are_found_by_the_variable_that_names_them() -> None:
    made = planned(environ={"OLLAMA_HOST": "0.0.0.0", "VLLM_BASE_URL": "http://gpu:8000"})
    assert provider(made, "ollama").base_url == "http://127.0.0.1:11434/v1"
    assert provider(made, "vllm").base_url == "http://gpu:8000/v1"
    assert provider(made, "vllm").auth == "none"
    assert {"ollama/*", "vllm/*"} <= {each.name for each in made.routes}


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:9", "http://127.0.0.1:9/v1"),
        ("box", "http://box:11434/v1"),
        ("https://box/api/", "https://box/api"),
        ("[::1]:7", "http://[::1]:7/v1"),
    ],
)
def test_an_address_may_leave_out_scheme_port_and_path(address: str, url: str) -> None:
    assert local_url(address, "http://127.0.0.1:11434/v1", "OLLAMA_HOST") == url


@pytest.mark.parametrize("address", ["ftp://x", "http://", "x:notaport"])
def test_a_variable_without_an_address_is_named(address: str) -> None:
    with pytest.raises(SettingsInvalid, match="OLLAMA_HOST"):
        local_url(address, "http://127.0.0.1:11434/v1", "OLLAMA_HOST")


def test_settings_win_over_the_environment_and_over_built_in_routes() -> None:
    made = planned(
        '[providers.openai]\nbase_url = "http://proxy/v1"\n[routes.pocket]\ntargets=[{provider="openai", model="big"}]',
        {"OPENAI_API_KEY": "x"},
        models=[version("model", "pocket", kind="chat")],
    )
    assert provider(made, "openai").base_url == "http://proxy/v1"
    assert route(made, "pocket").targets[0].model == "big"


def test_a_key_for_a_well_known_provider_is_not_sent_to_another_address() -> None:
    made = planned('[providers.openai]\nbase_url = "http://proxy/v1"', {"OPENAI_API_KEY": "x"})
    assert provider(made, "openai").api_key_env is None
    made = planned("[providers.openai]\ntimeout_s = 5.0", {"OPENAI_API_KEY": "x"})
    assert provider(made, "openai").api_key_env == "OPENAI_API_KEY"


def stored(name: str, **content: object) -> StoredObject:
    return StoredObject(kind="provider", name=name, content=content, version=1, actor="ada", updated_ns=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"api_key_env": "PATH"}, "PATH does not look like a provider's key"),
        ({"api_key_env": "OPENAI_API_KEY"}, "is the key for https://api.openai.com"),
        ({"api_key_env": "LAB_LOGIN"}, "is the key for https://lab.example"),
        ({"api_key_env": "TABLES_TOKEN"}, "does not look like a provider's key"),
        ({"base_url": "http://mine.example/{OPENAI_API_KEY}"}, "may not be filled from the variable"),
    ],
)
def test_who_edits_objects_reads_no_variable_of_the_process(content: dict[str, object], words: str) -> None:
    text = """
[storage]
control_url_env = "TABLES_TOKEN"
[providers.lab]
base_url = "https://lab.example/v1"
api_key_env = "LAB_LOGIN"
"""
    environ = {"OPENAI_API_KEY": "sk-x", "TABLES_TOKEN": "postgresql://u:p@h/d"}
    evil = stored("evil", **{"base_url": "http://mine.example", **content})
    with pytest.raises(SettingsInvalid, match="provider 'evil'") as caught:
        planned(text, environ, objects=[evil])
    assert words in caught.value.message
    fine = [
        stored("openai", timeout_s=5),
        stored("own", base_url="http://127.0.0.1:9/v1", api_key_env="OWN_KEY"),
    ]
    made = planned(text, environ, objects=fine)
    assert provider(made, "own").api_key_env == "OWN_KEY"
    assert provider(made, "openai").api_key_env == "OPENAI_API_KEY"


def test_the_settings_file_may_name_any_variable() -> None:
    made = planned('[providers.lab]\nbase_url = "http://lab.example"\napi_key_env = "PATH"', {"PATH": "/bin"})
    assert provider(made, "lab").api_key_env == "PATH"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            '[routes.a]\ntargets = [\n  {provider = "lcoal", model = "m"}]\n[providers.local]\nbase_url="http://x"',
            3,
            "Did you mean 'local'",
        ),
        ('[routes.a]\ntargets = [{provider = "openai", model = "m"}]', 2, "Set OPENAI_API_KEY"),
        ("[providers.mine]\ntimeout_s = 5.0", 1, "'base_url' is missing"),
        ('\n[providers.engine]\nbase_url = "http://x"', 2, "built-in provider"),
    ],
)
def test_what_settings_get_wrong_about_each_other_has_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words) as caught:
        planned(text)
    assert caught.value.fields["problems"][0]["line"] == line


def test_a_deployment_whose_rows_are_wrong_keeps_nothing_else_from_the_gateways() -> None:
    bad = live("bad", engine="server", urls=("http://h:8000/v1?x=1",))
    unsealed = live("unsealed", engine="server", urls=("http://h:8000/v1",), secret="box")
    made = planned(deployments=[bad, live("good"), unsealed], secrets={})
    assert {each.name for each in made.routes} >= {"good", "lexical"}
    assert not {each.name for each in made.routes} & {"bad", "unsealed"}
    assert "engine-bad" not in {each.name for each in made.providers}
    assert [each for each in made.warnings if "'bad' is left out" in each]
    assert [each for each in made.warnings if "'unsealed' is left out" in each]


def test_the_provider_of_a_deployment_never_takes_the_place_of_one_that_somebody_wrote() -> None:
    text = '[providers.engine-live]\nbase_url = "https://api.example.com/v1"\n'
    with pytest.raises(SettingsInvalid, match="name of a deployment's provider"):
        planned(text, deployments=[live()])


def test_what_stands_unseen_behind_a_route_of_the_same_name_is_told() -> None:
    made = planned(
        '[routes.live]\ntargets = [{ provider = "engine", model = "lexical" }]\n',
        deployments=[live(), live("handbook")],
        apps=[version("app", "handbook")],
    )
    assert [each for each in made.warnings if "(settings) stands before the deployment 'live'" in each]
    assert [
        each
        for each in made.warnings
        if "the deployment 'handbook' answers as 'handbook', so app:handbook" in each
    ]


def test_settings_that_name_the_provider_of_a_deployment_outlive_it() -> None:
    text = """[routes.mine]
targets = [{ provider = "engine-live", model = "live" }]
[routes.both]
targets = [{ provider = "engine-live", model = "live" }, { provider = "engine", model = "lexical" }]
"""
    made = planned(text, deployments=[live()])
    assert [each.provider for each in route(made, "both").targets] == ["engine-live", "engine"]
    assert made.warnings == ()
    made = planned(text)
    assert [each.provider for each in route(made, "both").targets] == ["engine"]
    assert provider(made, "engine-live").base_url == "http://127.0.0.1:9/v1"
    assert not provider(made, "engine-live").local
    assert [each for each in made.warnings if "'mine' names engine-live" in each and "calls fail" in each]
