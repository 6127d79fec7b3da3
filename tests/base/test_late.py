"""Modules that wait: nothing is executed before it is used, once is enough, and the stand-in passes everything on."""

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

import penstock
from penstock.base.late import LateModule, late_imports

BODY = """
import threading, time
import penstock.late_probe_log as log
log.seen.append(__name__)
time.sleep(0.05)
value = 1
def told(): return value
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Put three modules beside ours, and give the names of those that were executed."""
    log = ModuleType("penstock.late_probe_log")
    seen: list[str] = []
    log.__dict__["seen"] = seen
    monkeypatch.setitem(sys.modules, log.__name__, log)
    monkeypatch.setattr(penstock, "late_probe_log", log, raising=False)
    (tmp_path / "late_probe.py").write_text(BODY)
    (tmp_path / "late_probe_broken.py").write_text(BODY + "raise ValueError('not today')\n")
    (tmp_path / "late_probe_package").mkdir()
    (tmp_path / "late_probe_package" / "__init__.py").write_text(BODY)
    monkeypatch.setattr(penstock, "__path__", [*penstock.__path__, str(tmp_path)])
    yield seen
    for name in ("late_probe", "late_probe_broken", "late_probe_package"):
        sys.modules.pop(f"penstock.{name}", None)
        penstock.__dict__.pop(name, None)


def test_a_module_waits_until_something_of_it_is_used_and_is_executed_once(modules: list[str]) -> None:
    with late_imports():
        from penstock import late_probe  # type: ignore[attr-defined]
    assert isinstance(late_probe, LateModule)
    assert not hasattr(late_probe, "__path__")
    assert modules == []
    assert late_probe.told() == 1
    assert "told" in dir(late_probe)
    assert modules == ["penstock.late_probe"]
    from penstock import late_probe as again  # type: ignore[attr-defined]

    assert not isinstance(again, LateModule)
    assert again.told is late_probe.told


def test_what_is_set_on_the_stand_in_is_set_on_the_module(modules: list[str]) -> None:
    with late_imports():
        from penstock import late_probe
    late_probe.value = 2
    assert late_probe.told() == 2
    del late_probe.value
    with pytest.raises(NameError):
        late_probe.told()


def test_threads_that_ask_at_once_get_one_module(modules: list[str]) -> None:
    with late_imports():
        from penstock import late_probe
    told: list[int] = []
    threads = [threading.Thread(target=lambda: told.append(late_probe.told())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [1] * 8
    assert modules == ["penstock.late_probe"]


def test_other_threads_and_imports_after_the_block_do_not_wait(modules: list[str]) -> None:
    with late_imports():
        thread = threading.Thread(target=__import__, args=("penstock.late_probe",))
        thread.start()
        thread.join()
    assert modules == ["penstock.late_probe"]
    assert not isinstance(sys.modules["penstock.late_probe"], LateModule)


def test_an_import_of_a_name_loads_what_waits_elsewhere(modules: list[str]) -> None:
    with late_imports():
        from penstock import late_probe
    from penstock.late_probe import told  # type: ignore[import-not-found]

    assert told is late_probe.told


def test_packages_are_given_as_they_are_and_what_does_not_exist_is_refused_at_once(
    modules: list[str],
) -> None:
    with late_imports():
        from penstock import late_probe_package  # type: ignore[attr-defined]
    assert modules == ["penstock.late_probe_package"]
    assert not isinstance(late_probe_package, LateModule)
    with pytest.raises(ImportError, match="late_probe_none"), late_imports():
        from penstock import late_probe_none  # type: ignore[attr-defined]  # noqa: F401


def test_a_module_that_breaks_says_so_each_time(modules: list[str]) -> None:
    with late_imports():
        from penstock import late_probe_broken  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(ValueError, match="not today"):
            late_probe_broken.told()
    assert modules == ["penstock.late_probe_broken"] * 2


@pytest.mark.parametrize("is_used", [False, True])
def test_what_is_patched_is_put_back(modules: list[str], is_used: bool) -> None:
    with late_imports():
        from penstock import late_probe
    if is_used:
        late_probe.told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late_probe, "value", 2)
        assert late_probe.told() == 2
    assert late_probe.told() == 1
    with mock.patch("penstock.late_probe.value", 3):
        assert late_probe.told() == 3
    with mock.patch.object(late_probe, "value", 4):
        assert late_probe.told() == 4
    assert late_probe.told() == 1
    assert vars(late_probe) is vars(sys.modules["penstock.late_probe"])


def test_blocks_leave_the_list_of_finders_alone_while_other_threads_walk_along_it(
    modules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, has_left, told = threading.Event(), threading.Event(), []

    class Slow:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "penstock.late_probe":
                asked.set()
                assert has_left.wait(10)

    def walk() -> None:
        told.append(importlib.import_module("penstock.late_probe").told())

    monkeypatch.setattr(sys, "meta_path", [Slow, PathFinder])
    thread = threading.Thread(target=walk)
    with late_imports():
        thread.start()
        assert asked.wait(10)
    has_left.set()
    thread.join()
    assert told == [1]


def test_blocks_within_blocks_and_blocks_that_fail_leave_what_was(modules: list[str]) -> None:
    with late_imports():
        with pytest.raises(KeyError), late_imports():
            raise KeyError
        from penstock import late_probe
    assert isinstance(late_probe, LateModule)
    n_finders = len(sys.meta_path)
    with late_imports():
        assert len(sys.meta_path) == n_finders
    with pytest.raises(ValueError, match="not today"):
        from penstock import late_probe_broken  # type: ignore[attr-defined]  # noqa: F401


def test_a_module_of_ours_waits_in_a_fresh_process() -> None:
    code = """
import sys
from penstock.base.late import late_imports
with late_imports():
    from penstock.access import keys
assert "sqlalchemy" not in sys.modules
keys.KeyService
assert "sqlalchemy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
