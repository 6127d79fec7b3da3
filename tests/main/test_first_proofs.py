"""What an installation begins with: proven once, remembered, and otherwise the version before it or a clear refusal."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.main.embedded import ModelRooms
from penstock.main.engine_files import (
    EngineFile,
    SharedEngine,
    list_engines,
    read_engine,
    read_shared,
    write_engine,
    write_shared,
)
from penstock.main.engine_process import host_shared
from penstock.main.engine_proofs import EngineProver
from penstock.main.first_proofs import FirstProofs, engine_build
from penstock.main.home_files import create_home
from penstock.providers.engines.app import EngineApp
from penstock.providers.engines.llama import LlamaEngine
from penstock.registry.types import Version
from penstock.spec.home import Home
from penstock.tuning.model_files import GGUF
from tests.main.engine_house import make_versions
from tests.providers.engines.test_engine_app import HELLO, KEY, RunningEngine, post


@pytest.fixture
def rooms(home: Home, tmp_path: Path) -> Iterator[ModelRooms]:
    """A home whose `prod` names the second version of a tiny model, and that has never been started."""
    create_home(home)
    make_versions(home, tmp_path / "sources")
    made = ModelRooms(home, environ={}, keeps_running=True)
    write_shared(home, SharedEngine(port=1))
    write_engine(home, EngineFile(child="engine", port=1, role="shared"))
    yield made
    made.close()


def register_liar(rooms: ModelRooms, *, like: int, name: str = "tiny") -> Version:
    """Register a version whose file says other things than were noted of it, and let `prod` name it."""
    version = rooms.registry.resolve(f"model:{name}@{like}")
    probe = [
        {
            **each,
            "top": {token: value - 3.0 * number for number, (token, value) in enumerate(each["top"].items())},
        }
        for each in version.content["probe"]
    ]
    content = {**version.content, "probe": probe}
    made = rooms.registry.register("model", name, content, artefacts=version.artefacts)
    rooms.registry.move_alias("model", name, "prod", made.number, actor="test", override_reason="a test")
    return made


def file_of(rooms: ModelRooms) -> EngineFile:
    found = read_engine(rooms.home, "engine")
    assert found is not None
    return found


class Loads:
    """Loads models and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, hosted: Any, context: int) -> LlamaEngine:
        self.count += 1
        return LlamaEngine(hosted.served.gguf, kind="chat", context_length=context, n_slots=1)


def test_a_version_is_proven_once_for_a_build_of_the_engine(rooms: ModelRooms) -> None:
    loads = Loads()
    for _ in range(2):
        begun = FirstProofs(rooms, build="one", load=loads).begin("tiny", 2)
        assert (begun.number, begun.refused) == (2, None)
    assert loads.count == 1
    FirstProofs(rooms, build="two", load=loads).begin("tiny", 2)
    assert loads.count == 2, "another engine may say other things of the same file"
    (rooms.home.run / "proven.json").write_text("{")
    FirstProofs(rooms, build="two", load=loads).begin("tiny", 2)
    assert loads.count == 3, "what cannot be read was not proven"
    assert "xllamacpp" in engine_build()


def test_a_refused_prod_gives_its_place_to_the_version_before_it(rooms: ModelRooms) -> None:
    liar = register_liar(rooms, like=2)
    hosting = host_shared(rooms, file_of(rooms))
    assert [each.served.version.partition(" ")[0] for each in hosting.models] == ["model:tiny@2"]
    assert file_of(rooms).models == {"tiny": 2}
    shared = read_shared(rooms.home)
    assert shared is not None
    assert shared.refused == {"tiny": liar.number}
    assert "nats from as registered" in shared.reasons["tiny"]
    assert shared.again_ns == {}, "it will not say other things tomorrow"


async def test_where_no_version_proves_the_model_says_so_and_the_others_serve(
    rooms: ModelRooms, tmp_path: Path
) -> None:
    make_versions(rooms.home, tmp_path / "more", "other", seeds=(9,))
    for number in (1, 2):
        version = rooms.registry.resolve(f"model:tiny@{number}")
        path = rooms.blobs.local_path(version.artefacts[GGUF])
        path.unlink()
        path.write_bytes(b"GGUF no more")
    hosting = host_shared(rooms, file_of(rooms))
    assert [each.served.name for each in hosting.models] == ["other"]
    assert file_of(rooms).models == {"other": 1}
    shared = read_shared(rooms.home)
    assert shared is not None
    assert shared.refused == {"tiny": 2}
    assert set(shared.again_ns) == {"tiny"}, "files can be mended"
    running = RunningEngine(EngineApp(hosting.models, internal_key=KEY, failed=hosting.failed))
    status, told = await post(running, "/v1/chat/completions", {"model": "tiny", "messages": HELLO})
    running.stop()
    assert status == 502
    assert "is not served" in told["error"]["message"]


def test_what_was_served_last_is_proven_again_by_another_build_only(
    rooms: ModelRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_shared(rooms, file_of(rooms))
    assert file_of(rooms).models == {"tiny": 2}
    asked: list[str] = []
    expect: Callable[..., Any] = EngineProver.expect
    monkeypatch.setattr(
        EngineProver, "expect", lambda self, version: asked.append(version.label) or expect(self, version)
    )
    host_shared(rooms, file_of(rooms))
    assert asked == []
    monkeypatch.setattr("penstock.main.first_proofs.engine_build", lambda: "another")
    host_shared(rooms, file_of(rooms))
    assert asked == ["model:tiny@2"]


def test_the_shipped_model_is_held_against_what_was_noted_of_its_file(home: Home) -> None:
    create_home(home)
    made = ModelRooms(home, environ={}, keeps_running=True)
    made.prepare()
    expected = EngineProver(made).expect(made.registry.resolve("model:pocket"))
    assert expected.stored is not None
    assert expected.stop_ids == (5,)
    other = SimpleNamespace(
        artefacts={GGUF: "sha256:0"}, content={"golden": [{"ids": [1]}]}, label="x", digest="y"
    )
    assert EngineProver(made).expect(other).stored is None  # type: ignore[arg-type]
    begun = FirstProofs(made).begin("pocket", 1)
    assert (begun.number, begun.refused) == (1, None)
    assert list_engines(home) == []
    made.close()
