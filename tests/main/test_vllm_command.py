"""vLLM's command line: everything said, nothing left to its defaults. Running it needs a machine that it runs on."""

import json
from pathlib import Path

import pytest

from penstock.deploy.deployments.errors import EngineNotInstalled
from penstock.deploy.deployments.types import PinnedModel, SeatSpec
from penstock.main.vllm_command import find_program, write_command, write_environ


def seat(**members: object) -> SeatSpec:
    model = PinnedModel(
        asset="model:mine", number=3, digest=f"sha256:{'a' * 64}", kind="chat", context_length=4096
    )
    return SeatSpec(
        child="engine-mine~1",
        deployment="mine",
        engine="vllm",
        model=model,
        served_name="mine",
        **members,  # type: ignore[arg-type]
    )


def test_everything_is_said() -> None:
    command = write_command(
        "/opt/vllm", Path("/models/aa"), seat(slots=8), 4711, sampling={"temperature": 0.2, "top_k": 0}
    )
    assert command[:3] == ("/opt/vllm", "serve", "/models/aa")
    told = dict(zip(command[3::2], command[4::2], strict=True))
    assert told["--host"] == "127.0.0.1"
    assert told["--port"] == "4711"
    assert told["--served-model-name"] == "mine"
    assert told["--max-model-len"] == "4096"
    assert told["--max-num-seqs"] == "8"
    assert told["--seed"] == "0"


def test_defaults_are_the_versions_and_not_those_of_a_file_in_its_folder() -> None:
    """vLLM issue 15281: values of generation_config.json became defaults of every call."""
    command = write_command("vllm", Path("/m"), seat(), 1, sampling={"temperature": 0.2, "top_k": 0})
    told = dict(zip(command[3::2], command[4::2], strict=True))
    assert told["--generation-config"] == "vllm"
    assert json.loads(told["--override-generation-config"]) == {
        "temperature": 0.2,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


def test_adapters_are_named_by_digest() -> None:
    """vLLM issue 42125: an adapter loaded anew under an old name is answered from the old one's cache."""
    command = write_command(
        "vllm", Path("/m"), seat(), 1, adapters=[("mine:tone@0123456789ab", Path("/adapters/tone"))]
    )
    at = command.index("--lora-modules")
    assert command[at + 1 :] == ("mine:tone@0123456789ab=/adapters/tone",)
    assert "--enable-lora" in command


def test_it_asks_for_the_internal_key_and_sends_nothing_home() -> None:
    environ = write_environ("ps-internal")
    assert environ["VLLM_API_KEY"] == "ps-internal"
    assert environ["VLLM_NO_USAGE_STATS"] == environ["HF_HUB_OFFLINE"] == "1"
    assert "ps-internal" not in " ".join(write_command("vllm", Path("/m"), seat(), 1))


def test_a_machine_without_it_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineNotInstalled) as caught:
        find_program({"PATH": str(tmp_path)})
    assert "--engine server" in str(caught.value.hint)
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program({"PATH": str(tmp_path)}) == str(program)
    assert find_program({"PATH": "", "PENSTOCK_VLLM": str(program)}) == str(program)
