"""The registry beside a model of it in plain lists: any sequence of calls leaves both alike."""

import itertools
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from penstock.registry.errors import AliasMoved, NothingToRollBack, UnknownAlias, UnknownVersion
from penstock.registry.service import Registry

_NAMES = itertools.count()
ALIASES = st.sampled_from(["canary", "stable"])
NUMBERS = st.integers(min_value=0, max_value=5)
CONTENTS = st.fixed_dictionaries({"n": st.integers(min_value=0, max_value=4)})


class NoBlobs:
    """No version here has artefacts."""

    def exists(self, digest: str) -> bool:
        return False


class RegistryMachine(RuleBasedStateMachine):
    """Versions as a list of contents; each alias as the list of its recorded (from, to, undoes) moves."""

    engine: Engine

    @initialize()
    def begin(self) -> None:
        self.registry = Registry(self.engine, NoBlobs())
        self.name = f"asset{next(_NAMES)}"
        self.contents: list[dict[str, Any]] = []
        self.parents: list[tuple[str, ...]] = []
        self.digests: list[str] = []
        self.moves: dict[str, list[tuple[int | None, int, bool]]] = {}
        self.stacks: dict[str, list[int]] = {}

    @rule(content=CONTENTS, n_parents=st.integers(min_value=0, max_value=2))
    def register(self, content: dict[str, Any], n_parents: int) -> None:
        parents = tuple(self.digests[-n_parents:]) if n_parents else ()
        version = self.registry.register("prompt", self.name, content, parents=parents)
        if content not in self.contents:
            self.contents.append(content)
            self.parents.append(parents)
            self.digests.append(version.digest)
        assert version.number == self.contents.index(content) + 1
        assert version.parents == self.parents[version.number - 1]

    @precondition(lambda self: self.contents)
    @rule(alias=ALIASES, number=NUMBERS, expected=st.one_of(st.just("any"), st.none(), NUMBERS))
    def move(self, alias: str, number: int, expected: int | str | None) -> None:
        stack = self.stacks.setdefault(alias, [])
        current = stack[-1] if stack else None
        extra = {} if expected == "any" else {"expected_number": expected}
        try:
            move = self.registry.move_alias("prompt", self.name, alias, number, actor="m", **extra)
        except UnknownVersion:
            assert not 1 <= number <= len(self.contents)
            return
        except AliasMoved:
            assert expected not in {"any", current}
            return
        assert 1 <= number <= len(self.contents)
        assert expected in {"any", current}
        if number != current:
            stack.append(number)
            self.moves.setdefault(alias, []).append((current, number, False))
            assert (move.from_number, move.to_number) == (current, number)

    @precondition(lambda self: self.contents)
    @rule(alias=ALIASES)
    def roll_back(self, alias: str) -> None:
        stack = self.stacks.setdefault(alias, [])
        try:
            move = self.registry.rollback_alias("prompt", self.name, alias, actor="m")
        except UnknownAlias:
            assert not stack
            return
        except NothingToRollBack:
            assert len(stack) == 1
            return
        left = stack.pop()
        self.moves[alias].append((left, stack[-1], True))
        assert (move.from_number, move.to_number) == (left, stack[-1])

    @invariant()
    def looks_alike(self) -> None:
        if not getattr(self, "contents", None):
            return
        versions = self.registry.list_versions("prompt", self.name)
        assert [version.content for version in reversed(versions)] == self.contents
        assert [version.digest for version in reversed(versions)] == self.digests
        standing = {alias: stack[-1] for alias, stack in self.stacks.items() if stack}
        assert self.registry.aliases("prompt", self.name) == standing
        for alias, moves in self.moves.items():
            history = self.registry.history("prompt", self.name, alias)
            seen = [(move.from_number, move.to_number, move.undoes is not None) for move in reversed(history)]
            assert seen == moves
            assert self.registry.resolve(f"prompt:{self.name}@{alias}").number == standing[alias]


def test_any_sequence_of_calls_leaves_what_the_model_says(sqlite_engine: Engine) -> None:
    machine = type("Machine", (RegistryMachine,), {"engine": sqlite_engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
