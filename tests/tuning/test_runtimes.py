"""The training environment: where it is looked for, what it is started with, and how it is made."""

import sys
from pathlib import Path

import pytest

from penstock.spec.tuning import Runtime
from penstock.tuning.runs.errors import InstallFailed, NoRuntime, RuntimeBroken
from penstock.tuning.runtimes import (
    COMPLETE,
    PYTHON_VARIABLE,
    RuntimePlace,
    differing_pins,
    find_runtime,
    install_runtime,
    probe_runtime,
    read_pins,
    runtime_folder,
    trainer_environment,
)
from tests.tuning.runs.fake_python import write_fake_python


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def write_base(folder: Path, pip: str) -> str:
    """An interpreter whose `-m venv FOLDER` makes one whose pip is the given script."""
    inner = write_program(folder / "inner", f'if [ "$2" = pip ]; then {pip}; fi')
    return str(write_program(folder / "base", f'mkdir -p "$3/bin" && cp "{inner}" "$3/bin/python"'))


def place(tmp_path: Path) -> dict[str, str]:
    return {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}


def test_the_setting_wins_over_the_variable_and_both_over_what_was_installed(tmp_path: Path) -> None:
    python = write_fake_python(tmp_path)
    environ = {**place(tmp_path), PYTHON_VARIABLE: str(python)}
    assert find_runtime(sys.executable, environ).origin == "setting"
    assert find_runtime(None, environ) == RuntimePlace(python=python, origin="environment")
    folder = runtime_folder(environ)
    folder.mkdir(parents=True)
    with pytest.raises(NoRuntime, match="penstock tune install"):
        find_runtime(None, place(tmp_path))
    (folder / COMPLETE).write_text("{}")
    assert find_runtime(None, place(tmp_path)).python == folder / "bin" / "python"


def test_a_named_interpreter_that_is_none_is_told_with_who_named_it(tmp_path: Path) -> None:
    with pytest.raises(NoRuntime, match=r"\[tuning\] python names it"):
        find_runtime(str(tmp_path / "none"), {})
    with pytest.raises(NoRuntime, match=PYTHON_VARIABLE):
        find_runtime(None, {PYTHON_VARIABLE: str(tmp_path)})


def test_an_environment_is_asked_what_it_holds_past_the_noise_of_its_libraries(tmp_path: Path) -> None:
    found = probe_runtime(RuntimePlace(python=write_fake_python(tmp_path), origin="setting"))
    assert (found.packages, found.device) == ({"torch": "0.fake"}, "cpu")
    again = probe_runtime(RuntimePlace(python=write_fake_python(tmp_path), origin="setting"))
    assert found.digest == again.digest


def test_an_environment_that_does_not_work_is_told_in_its_own_words(tmp_path: Path) -> None:
    broken = write_program(tmp_path / "python", 'echo "ImportError: libcudart.so.13" >&2; exit 1')
    with pytest.raises(RuntimeBroken, match=r"libcudart\.so\.13"):
        probe_runtime(RuntimePlace(python=broken, origin="setting"))
    silent = write_program(tmp_path / "silent", "exit 0")
    with pytest.raises(RuntimeBroken, match="it said nothing"):
        probe_runtime(RuntimePlace(python=silent, origin="setting"))


def test_the_trainer_gets_no_keys_and_its_libraries_neither_reach_out_nor_tell_anybody() -> None:
    """TRL sends usage data unless it is told not to."""
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "secret", "PYTHONPATH": "/x", "HF_TOKEN": "secret"}
    given = trainer_environment(environ)
    assert given["PATH"] == "/bin"
    assert not {"OPENAI_API_KEY", "PYTHONPATH", "HF_TOKEN"} & set(given)
    assert (given["HF_HUB_OFFLINE"], given["HF_HUB_DISABLE_TELEMETRY"], given["WANDB_MODE"]) == (
        "1",
        "1",
        "disabled",
    )
    allowed = trainer_environment(environ, network=True)
    assert "HF_HUB_OFFLINE" not in allowed
    assert allowed["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_an_environment_is_made_once_and_not_found_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = place(tmp_path)
    told: list[str] = []
    base = write_base(tmp_path, 'echo "Collecting torch==1"; echo "$@" >> "$HOME/pip-calls"')
    for _ in range(2):
        made = install_runtime(lambda _share, text: told.append(text), environ=environ, base_python=base)
    assert find_runtime(None, environ) == made
    calls = (tmp_path / "pip-calls").read_text().splitlines()
    assert len(calls) == 1
    assert "requirements.txt" in calls[0]
    assert "Collecting torch==1" in told


def test_an_installation_that_fails_leaves_nothing_that_would_be_used(tmp_path: Path) -> None:
    environ = place(tmp_path)
    base = write_base(tmp_path, 'echo "ERROR: No matching distribution found for torch"; exit 1')
    with pytest.raises(InstallFailed, match="No matching distribution"):
        install_runtime(lambda _share, _text: None, environ=environ, base_python=base)
    with pytest.raises(NoRuntime):
        find_runtime(None, environ)


def test_pins_are_exact_and_other_versions_are_told() -> None:
    pins = read_pins()
    assert {"torch", "transformers", "trl", "peft"} <= set(pins)
    assert all(version and "*" not in version for version in read_pins(gpu=True).values())
    assert "bitsandbytes" in read_pins(gpu=True)
    packages = {**pins, "torch": f"{pins['torch']}+cpu", "trl": "0.1"}
    runtime = Runtime(python="python", digest="", packages=packages, device="cpu")
    assert differing_pins(runtime) == {"trl": (pins["trl"], "0.1")}
