"""Brings prompts from files into the registry, and tells how the two differ: what CI asks after every commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.base.errors import InvalidInput, NotFound, PenstockError
from penstock.prompts.service import PromptService
from penstock.spec.prompts import PromptContent
from penstock.templating.check import check_prompt

State = Literal["new", "changed", "same", "older", "wrong"]
"""`older`: the file holds a version that is not the newest. `wrong`: it cannot be saved."""


@dataclass(frozen=True, kw_only=True)
class ImportedPrompt:
    """What became of one prompt of a file, or would."""

    name: str
    file: str
    state: State
    number: int | None = None
    """The version that holds it; None while there is none."""
    latest: int | None = None
    """The newest version after the import."""
    problem: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the registry does not hold what the file does."""
        return self.state in ("new", "changed", "wrong")


def import_prompts(
    service: PromptService,
    found: Sequence[tuple[str, str, PromptContent]],
    *,
    note: str = "",
    actor: str = "penstock",
    only_check: bool = False,
) -> list[ImportedPrompt]:
    """Make a version of each prompt (name, file, content) that is not registered as it is, and return what was done.

    When one of them cannot be saved, none is. With `only_check` nothing is changed. Raises `InvalidInput` for two files
    of one name.
    """
    seen: dict[str, str] = {}
    for name, file, _ in found:
        if name in seen:
            raise InvalidInput(
                f"Both {seen[name]} and {file} hold the prompt {name!r}.", hint="Rename one of them."
            )
        seen[name] = file
    planned = [_plan(service, *each) for each in found]
    if only_check or any(each.state == "wrong" for each in planned):
        return planned
    done: list[ImportedPrompt] = []
    for each, (name, file, content) in zip(planned, found, strict=True):
        if not each.differs:
            done.append(each)
            continue
        version = service.create(name, content, note=note or f"from {file}", actor=actor)
        done.append(
            ImportedPrompt(
                name=name, file=file, state=each.state, number=version.number, latest=version.number
            )
        )
    return done


def _plan(service: PromptService, name: str, file: str, content: PromptContent) -> ImportedPrompt:
    try:
        check_prompt(content)
        content = service.pinned(content)
        versions = service.list_versions(name)
    except NotFound:
        return ImportedPrompt(name=name, file=file, state="new")
    except PenstockError as error:
        hint = f" {error.hint}" if error.hint else ""
        return ImportedPrompt(name=name, file=file, state="wrong", problem=error.message + hint)
    latest = versions[0].number
    for version in versions:
        if version.content == content:
            state: State = "same" if version.number == latest else "older"
            return ImportedPrompt(name=name, file=file, state=state, number=version.number, latest=latest)
    return ImportedPrompt(name=name, file=file, state="changed", latest=latest)
