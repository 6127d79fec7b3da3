"""The house rules that can be counted: import effects, file and function sizes, words that must not stand."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "penstock").rglob("*.py"))
HEAVY = ("duckdb", "sklearn", "scipy", "torch", "sqlalchemy", "fastapi", "numpy", "xllamacpp", "tokenizers")
LONG_FILES: dict[str, str] = {}
"""Files over 500 lines, each with its reason. The list may only shrink."""

_PROBE = """
import builtins, json, socket, sys, threading
opened = []
real_open = builtins.open
builtins.open = lambda *a, **k: (opened.append(str(a[0])), real_open(*a, **k))[1]
def refuse(*a, **k): raise AssertionError("socket at import")
socket.socket.connect = refuse
import penstock
print(json.dumps({"threads": threading.active_count(), "opened": opened, "modules": list(sys.modules)}))
"""


def test_import_penstock_does_no_io_starts_no_thread_and_loads_nothing_heavy() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=True, timeout=240
    )
    seen = json.loads(run.stdout)
    assert seen["threads"] == 1
    assert seen["opened"] == []
    assert [name for name in HEAVY if name in seen["modules"]] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_keep_their_size(path: Path) -> None:
    text = path.read_text()
    lines = len(text.splitlines())
    name = str(path.relative_to(ROOT))
    assert lines <= 800, f"{name} has {lines} lines; split it"
    assert lines <= 500 or name in LONG_FILES, f"{name} has {lines} lines and gives no reason"
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not text.strip(), f"{name} has no header docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            size = node.end_lineno - node.lineno + 1
            assert size <= 100, f"{name}: {node.name} has {size} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_own_packages_are_imported_at_the_top_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.ImportFrom):
                assert not (inner.module or "").startswith("penstock"), (
                    f"{path}: {node.name} imports {inner.module}"
                )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_late_are_modules_of_ours_after_all_other_imports(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    blocks = [node for node in body if isinstance(node, ast.With) and _is_late(node)]
    if not blocks:
        return
    (block,) = blocks
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all(node.lineno < block.lineno for node in imports)
    for node in block.body:
        assert isinstance(node, ast.ImportFrom), f"{path}: line {node.lineno} is no import of modules"
        for alias in node.names:
            place = ROOT / "src" / str(node.module).replace(".", "/") / f"{alias.name}.py"
            assert place.exists(), (
                f"{path}: {node.module}.{alias.name} is no module, and would be loaded at once"
            )


def _is_late(node: ast.With) -> bool:
    return any(ast.unparse(item.context_expr) == "late_imports()" for item in node.items)


def test_no_catch_all_module_names() -> None:
    banned = {"utils", "helpers", "manager", "common"}
    assert [str(path) for path in SOURCES if path.stem in banned] == []


def test_rooms_import_downward_only() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:]
