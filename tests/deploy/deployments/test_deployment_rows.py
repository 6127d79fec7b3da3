"""From deployments to rows of a snapshot: names, addresses, versions."""

from dataclasses import replace

import msgspec

from penstock.deploy.deployments.rows import (
    LiveDeployment,
    SharedModel,
    deployment_providers,
    deployment_routes,
)
from penstock.deploy.deployments.types import Generation, PinnedModel
from penstock.spec.routes import Target
from penstock.spec.tuning import DeploymentSpec
from tests.deploy.deployments.yard import model


def live(
    name: str = "live",
    *,
    number: int = 2,
    urls: tuple[str | None, ...] = ("http://127.0.0.1:1/v1",),
    adapters: tuple[PinnedModel, ...] = (),
    is_strict: bool = False,
    **members: object,
) -> LiveDeployment:
    spec = DeploymentSpec(name=name, model=f"model:pocket@{number}", **members)  # type: ignore[arg-type]
    generation = Generation(
        number=1,
        model=model(number),
        adapters=adapters,
        seats=tuple(f"engine-{name}~1~{n}" for n in range(len(urls))),
        served_name=name,
        is_strict=is_strict,
        url=urls[0] if spec.engine == "server" else None,
        secret=spec.secret,
    )
    return LiveDeployment(spec=spec, generation=generation, urls=urls)


def test_each_process_is_a_provider_that_is_sent_the_internal_key_only_if_it_is_ours() -> None:
    own = live(urls=("http://127.0.0.1:1/v1", None, "http://127.0.0.1:3/v1"))
    far = live("far", engine="server", urls=("http://10.0.0.5:8000/v1",), secret="box")
    rows = {each.name: each for each in deployment_providers([own, far])}
    assert list(rows) == ["engine-live", "engine-live~3", "engine-far"]
    assert rows["engine-live"].local
    assert (rows["engine-far"].local, rows["engine-far"].secret) == (False, "box")


def test_a_route_names_the_version_that_every_process_of_it_serves() -> None:
    rows = {each.name: each for each in deployment_routes([live(urls=("http://a/v1", "http://b/v1"))])}
    route = rows["live"]
    assert [each.provider for each in route.targets] == ["engine-live", "engine-live~2"]
    assert route.balance == "least-busy"
    assert route.versions == {"model:pocket": model(2).stamp}


def test_deployments_of_one_version_share_a_route_by_weight_and_others_stay_out_of_it() -> None:
    sharing = [live("a", route="pocket"), live("b", route="pocket", weight=50)]
    other = live("c", number=3, route="pocket")
    rows = {each.name: each for each in deployment_routes([*sharing, other])}
    assert [(each.provider, each.weight) for each in rows["pocket"].targets] == [
        ("engine-a", 1.0),
        ("engine-b", 0.5),
    ]


def test_each_version_that_is_served_answers_under_its_number() -> None:
    shared = SharedModel(
        asset="model:pocket",
        number=1,
        digest=model(1).digest,
        kind="chat",
        target=Target(provider="engine", model="pocket"),
    )
    rows = {each.name: each for each in deployment_routes([live(number=2)], [shared])}
    route = rows["model:pocket"]
    assert [(pin.name, pin.targets[0].provider) for pin in route.pins] == [
        ("1", "engine"),
        ("2", "engine-live"),
    ]
    assert route.versions == {"model:pocket": model(1).stamp}  # without a number it is what prod names


def test_an_alias_answers_where_what_it_names_is_served_and_nowhere_else() -> None:
    shared = SharedModel(
        asset="model:pocket",
        number=1,
        digest=model(1).digest,
        kind="chat",
        target=Target(provider="engine", model="pocket"),
    )

    def pins(**aliases: int) -> dict[str, str | None]:
        rows = deployment_routes([live(number=2)], [shared], {"model:pocket": aliases})
        (route,) = [each for each in rows if each.name == "model:pocket"]
        return {pin.name: pin.targets[0].provider for pin in route.pins if not pin.name.isdigit()}

    assert pins(prod=1, candidate=2, old=7) == {"prod": "engine", "candidate": "engine-live"}
    assert pins(prod=2) == {"prod": "engine"}, "what serves for prod does so until the engine has followed"
    assert pins(**{"a" * 300: 1}) == {}


def test_adapters_answer_under_routes_of_their_own_and_are_named_by_digest() -> None:
    tone = model(7, name="tone")
    rows = {each.name: each for each in deployment_routes([live(adapters=(tone,))])}
    route = rows["live:tone"]
    assert route.targets[0].model == f"live:tone@{tone.short}"
    assert route.versions == {"model:pocket": model(2).stamp, "model:tone": tone.stamp}
    assert [pin.name for pin in route.pins] == [tone.short]


def test_strict_adapters_are_asked_at_processes_of_their_own() -> None:
    tone, terms = model(7, name="tone"), model(8, name="terms")
    urls = ("http://base/v1", "http://tone/v1", "http://terms/v1")
    rows = {
        each.name: each
        for each in deployment_routes([live(adapters=(tone, terms), is_strict=True, urls=urls)])
    }
    providers = {
        name: [each.provider for each in rows[name].targets] for name in ("live", "live:tone", "live:terms")
    }
    assert providers == {
        "live": ["engine-live"],
        "live:tone": ["engine-live~2"],
        "live:terms": ["engine-live~3"],
    }


def test_two_versions_of_one_adapter_are_asked_apart_under_its_name() -> None:
    one, two = model(1, name="ad"), model(2, name="ad")
    rows = {each.name: each for each in deployment_routes([live(adapters=(one, two))])}
    route = rows["live:ad"]
    assert route.version == f"model:ad@1 sha256:{one.short}"
    assert [pin.name for pin in route.pins] == [one.short, two.short]
    assert [pin.targets[0].model for pin in route.pins] == [f"live:ad@{each.short}" for each in (one, two)]
    assert route.pins[1].version == f"model:ad@2 sha256:{two.short}"
    assert set(route.pins[1].versions) == {"model:ad", "model:pocket"}


def test_an_alias_that_a_deployment_follows_can_be_asked_for_too() -> None:
    following = live("candidate", number=3)
    spec = msgspec.structs.replace(following.spec, model="model:pocket@candidate", follow=True)
    fixed = live("fixed", number=2)
    fixed_spec = msgspec.structs.replace(fixed.spec, model="model:pocket@stable")
    rows = {
        each.name: each
        for each in deployment_routes([replace(following, spec=spec), replace(fixed, spec=fixed_spec)])
    }
    pins = {pin.name: pin for pin in rows["model:pocket"].pins}
    assert set(pins) == {"2", "3", "candidate"}  # what no longer follows its alias may not be what it names
    assert pins["candidate"].version == pins["3"].version
