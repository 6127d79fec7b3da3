"""Docs are held to the code: every block runs, the reference is current, each code is one error, links lead somewhere.

Blocks marked `python` run as programs, blocks marked `sh` line by line as commands, page by page in order, against a
real running installation with the handbook in it. Blocks marked `text` are not run.
"""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARTICLES = ROOT / "src" / "penstock" / "data" / "handbook" / "articles"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)(?:#[^)]*)?\)")


def blocks_of(page: Path) -> list[tuple[str, str]]:
    return [
        (kind, text) for kind, text in BLOCK.findall(page.read_text()) if kind in {"python", "sh", "toml"}
    ]


@dataclass(frozen=True, kw_only=True)
class Installation:
    environment: dict[str, str]
    gateway: str
    console: str


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("docs") / "home"
    environment = {**os.environ, "PENSTOCK_HOME": str(home)}
    up = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", "up", "--port", "0", "--console-port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    lines = []
    for line in up.stdout:
        lines.append(line)
        if line.startswith("ready"):
            break
    printed = "".join(lines)
    try:
        found = re.findall(r"http://127\.0\.0\.1:\d+", printed)
        assert len(found) >= 2, printed
        run = [sys.executable, "-m", "penstock.cli"]
        subprocess.run(
            [*run, "knowledge", "ingest", "handbook", str(ARTICLES)], env=environment, check=True, timeout=240
        )
        made = subprocess.run(
            [*run, "key", "create", "--name", "docs", "--json"],
            env=environment,
            check=True,
            capture_output=True,
            timeout=240,
        )
        environment["PENSTOCK_KEY"] = json.loads(made.stdout)["key"]
        wait_until_known(found[0], environment["PENSTOCK_KEY"])
        yield Installation(environment=environment, gateway=found[0], console=found[1])
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=240)


def wait_until_known(gateway: str, key: str) -> None:
    """Gateways look for a new snapshot every half second."""
    asked = urllib.request.Request(f"{gateway}/v1/models", headers={"authorization": f"Bearer {key}"})
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=60):
                return
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_of(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_block_of_the_page_runs(page: Path, installation: Installation, tmp_path: Path) -> None:
    for kind, text in blocks_of(page):
        code = text.replace("http://127.0.0.1:4600", installation.gateway)
        code = code.replace("http://127.0.0.1:4601", installation.console)
        if kind == "toml":
            (tmp_path / "penstock.toml").write_text(code)
            commands = [[sys.executable, "-m", "penstock.cli", "config", "check", "--home", str(tmp_path)]]
        elif kind == "python":
            commands = [[sys.executable, "-c", code]]
        else:
            lines = [shlex.split(line) for line in code.replace("\\\n", " ").splitlines() if line.strip()]
            commands = [
                [sys.executable, "-m", "penstock.cli", *line[1:]] for line in lines if line[0] == "penstock"
            ]
            assert len(commands) == len(lines), f"{page.name}: `sh` blocks hold penstock commands only"
        for command in commands:
            run = subprocess.run(
                command,
                env=installation.environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert run.returncode == 0, f"{page.name}:\n{code}\n{run.stdout[-1500:]}\n{run.stderr[-3000:]}"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load_everything()
    return module


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "errors.md", "rest.md", "providers.md"])
def test_reference_pages_say_what_the_code_says(generator: ModuleType, name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == generator.PAGES[name](), "run `make docs`"


def test_every_command_has_help_and_an_example(generator: ModuleType) -> None:
    text = generator.write_commands()
    for section in text.split("\n## ")[1:]:
        assert "Example: " in section, section.splitlines()[0]


def test_every_setting_says_what_it_means(generator: ModuleType) -> None:
    bare = [
        line
        for line in generator.write_settings().splitlines()
        if line.startswith("| `") and line.endswith("|  |")
    ]
    assert bare == []


def test_every_error_has_a_code_of_its_own(generator: ModuleType) -> None:
    kinds: dict[str, set[str]] = {}
    for kind in generator._subclasses(generator.PenstockError):
        if "code" in vars(kind):
            kinds.setdefault(kind.code, set()).add(kind.__name__)
    assert {code: names for code, names in kinds.items() if len(names) > 1} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
