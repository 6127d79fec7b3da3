"""Engines as files: what the supervisor makes of them, and what a start makes of those of the last one."""

import socket
from pathlib import Path

import msgspec
import pytest

from penstock.deploy.deployments.types import SeatSpec
from penstock.main.engine_files import (
    EngineFile,
    EngineSpecs,
    engines_folder,
    list_engines,
    read_engine,
    read_shared,
    remove_engine,
    settle_engines,
    write_engine,
)
from penstock.main.engine_seats import EngineSeats
from penstock.main.home_files import create_home
from penstock.spec.home import Home
from tests.deploy.deployments.yard import model
from tests.fixtures.ports import free_port


@pytest.fixture
def made(home: Home) -> Home:
    create_home(home)
    return home


def seat(child: str = "engine-live~1") -> SeatSpec:
    return SeatSpec(child=child, deployment="live", engine="embedded", model=model(1), served_name="live")


def test_a_file_is_a_process_and_no_file_is_none(made: Home) -> None:
    find = EngineSpecs(made)
    assert find() == []
    write_engine(made, EngineFile(child="engine-live~1", port=4711, seat=seat()))
    (spec,) = find()
    assert (spec.name, spec.port, spec.is_vital) == ("engine-live~1", 4711, False)
    assert spec.command[-2:] == ("--serve", "engine-live~1")
    assert find() == [spec]
    remove_engine(made, "engine-live~1")
    assert find() == []


def test_what_a_process_writes_into_its_own_file_does_not_start_it_again(made: Home) -> None:
    file = EngineFile(child="engine", port=4711, role="shared")
    write_engine(made, file)
    find = EngineSpecs(made)
    before = find()
    write_engine(made, msgspec.structs.replace(file, models={"pocket": 1}))
    assert find() == before


def test_a_file_that_cannot_be_read_or_names_another_process_is_left_out(made: Home) -> None:
    write_engine(made, EngineFile(child="engine", port=4711, role="shared"))
    folder = engines_folder(made)
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_bytes((folder / "engine.json").read_bytes())
    assert [spec.name for spec in EngineSpecs(made)()] == ["engine"]


def test_a_start_keeps_deployments_and_begins_with_one_shared_engine(made: Home) -> None:
    write_engine(made, EngineFile(child="engine~3", port=4711, role="shared", models={"pocket": 2}))
    port = free_port()
    write_engine(made, EngineFile(child="engine-live~1", port=port, seat=seat()))
    settle_engines(made, 4800)
    assert [file.child for file in list_engines(made)] == ["engine-live~1", "engine"]
    kept, shared = read_engine(made, "engine-live~1"), read_engine(made, "engine")
    assert kept is not None
    assert kept.port == port
    assert shared is not None
    assert (shared.port, shared.models) == (4800, None)
    told = read_shared(made)
    assert told is not None
    assert (told.child, told.port) == ("engine", 4800)


def test_a_port_that_somebody_took_meanwhile_is_given_up(made: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        command = ("vllm", "serve", "--port", str(port))
        write_engine(made, EngineFile(child="engine-live~1", port=port, seat=seat(), command=command))
        settle_engines(made, 4800)
    file = read_engine(made, "engine-live~1")
    assert file is not None
    assert file.port != port
    assert file.command[-1] == str(file.port)


def test_a_process_that_is_meant_to_run_is_put_there_once(made: Home) -> None:
    seats = EngineSeats(made)
    seats.put(seat())
    before = read_engine(made, "engine-live~1")
    seats.put(seat())
    assert read_engine(made, "engine-live~1") == before
    assert seats.names("live") == ["engine-live~1"]
    assert seats.look("engine-live~1").status == "starting"
    assert seats.look("engine-live~2").status == "missing"
    seats.drop("engine-live~1")
    seats.drop("engine-live~1")
    assert seats.names("live") == []


def test_names_with_dots_and_replicas_stay_apart(made: Home, tmp_path: Path) -> None:
    seats = EngineSeats(made)
    for child, deployment in (("engine-a~1~2", "a"), ("engine-a.1~2", "a.1")):
        seats.put(msgspec.structs.replace(seat(child), deployment=deployment))
    assert (seats.names("a"), seats.names("a.1")) == (["engine-a~1~2"], ["engine-a.1~2"])


def test_a_file_that_could_not_be_read_once_ends_no_process(
    made: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_engine(made, EngineFile(child="engine", port=4711, role="shared"))
    find = EngineSpecs(made)
    before = find()
    write_engine(made, EngineFile(child="engine", port=4711, role="shared", models={"pocket": 1}))

    def too_many(_: Path) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", too_many)
        assert find() == before
        assert EngineSpecs(made)() == []
    late = EngineSpecs(made)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", too_many)
        late()
    assert late() == find() == before
