"""The use-cases of prompts: make versions, read them, compare them, fill them in, see who uses them.

Versions and aliases are the registry's; a prompt's content is held against its templates before it gets there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.base.errors import NotFound, suggest
from penstock.prompts.diff import PromptDiff, diff_prompts
from penstock.prompts.errors import UnknownPrompt
from penstock.prompts.examples import ExamplePicker
from penstock.prompts.loops import refuse_loops
from penstock.prompts.ports import Keeper, KeptVersion
from penstock.prompts.tokens import count_tokens
from penstock.prompts.types import (
    KIND,
    Preview,
    PromptParts,
    PromptSummary,
    PromptUse,
    PromptUses,
    PromptVersion,
)
from penstock.spec.assets import AssetRef, parse_asset_ref
from penstock.spec.prompts import PromptContent
from penstock.templating.check import check_prompt, find_problems
from penstock.templating.errors import InvalidPrompt
from penstock.templating.render import Rendered, render_prompt


def prompt_ref(text: str) -> AssetRef:
    """Return the reference that `triage`, `triage@prod`, `prompt:triage@3` or `prompt:triage@sha256:…` writes."""
    return parse_asset_ref(text if text.startswith(f"{KIND}:") else f"{KIND}:{text}")


def read_content(value: Any) -> PromptContent:
    """Return the prompt that a JSON object holds; raise `InvalidPrompt` that names the wrong member."""
    if isinstance(value, PromptContent):
        return value
    if isinstance(value, dict):
        unknown = set(value) - set(PromptContent.__struct_fields__)
        if unknown:
            name = min(unknown)
            near = suggest(name, PromptContent.__struct_fields__) or ""
            raise InvalidPrompt([f"A prompt has no member {name!r}.{' ' if near else ''}{near}"])
    try:
        return msgspec.convert(value, PromptContent)
    except msgspec.ValidationError as error:
        raise InvalidPrompt([f"{error}."]) from None


class PromptService:
    """Prompts over a registry. Every method may be called from any thread."""

    def __init__(self, registry: Keeper, parts: PromptParts | None = None) -> None:
        self._registry = registry
        self._parts = parts or PromptParts()
        self.picker = ExamplePicker(self._parts.rows, self._parts.embed)

    # -- versions

    def check(self, content: PromptContent) -> list[str]:
        """Return everything that is wrong with a prompt, one sentence each; empty when it can be saved."""
        return list(find_problems(content))

    def create(
        self, name: str, content: PromptContent, *, note: str = "", actor: str = "penstock"
    ) -> PromptVersion:
        """Return the version that holds this content, made only if there is none.

        A dataset of examples is pinned to the version it has now and becomes a parent. Raises `InvalidPrompt`,
        `PromptLoop`, `InvalidInput` for a bad name.
        """
        check_prompt(content)
        content, parents = self._pin_examples(content)
        self._refuse_loops(name, content.model)
        before = self._latest_number(name)
        version = self._registry.register(
            KIND, name, msgspec.to_builtins(content), parents=parents, note=note
        )
        is_new = version.number > (before or 0)
        if is_new and self._parts.publish is not None:
            self._parts.publish(actor, f"version {version.number} of prompt {name}")
        return prompt_version(version, self._aliases_at(version), is_new=is_new)

    def get(self, reference: str) -> PromptVersion:
        """Return the version that a reference names; without a suffix `prod`, else the newest."""
        try:
            version = self._registry.resolve(prompt_ref(reference))
        except NotFound as error:
            raise self._unknown(prompt_ref(reference).name, error) from error
        return prompt_version(version, self._aliases_at(version))

    def list_versions(self, name: str) -> list[PromptVersion]:
        """Return the versions of a prompt, newest first."""
        try:
            versions = self._registry.list_versions(KIND, name)
        except NotFound as error:
            raise self._unknown(name, error) from error
        aliases = self._registry.aliases(KIND, name)
        return [
            prompt_version(version, tuple(a for a, n in aliases.items() if n == version.number))
            for version in versions
        ]

    def list_prompts(self) -> list[PromptSummary]:
        """Return all prompts by name."""
        found: list[PromptSummary] = []
        for asset in self._registry.list_assets(KIND):
            newest = self._registry.resolve(AssetRef(kind=KIND, name=asset.name, number=asset.latest))
            content = msgspec.convert(newest.content, PromptContent)
            moves = self._registry.history(KIND, asset.name, limit=1)
            found.append(
                PromptSummary(
                    name=asset.name,
                    n_versions=asset.n_versions,
                    latest=asset.latest,
                    aliases=asset.aliases,
                    description=content.description,
                    model=content.model,
                    variables=tuple(content.variables),
                    created_ns=asset.created_ns,
                    changed_ns=max(asset.updated_ns, moves[0].moved_ns if moves else 0),
                )
            )
        return found

    def diff(self, before: str, after: str) -> PromptDiff:
        """Return how one version differs from another, by turn and word."""
        a, b = self.get(before), self.get(after)
        return diff_prompts(a.content, b.content, names=(a.label, b.label))

    # -- aliases

    def aliases(self, name: str) -> Mapping[str, int]:
        """Return alias to version number."""
        return self._registry.aliases(KIND, name)

    def history(self, name: str, alias: str | None = None) -> Sequence[Any]:
        """Return who moved an alias, when and on what evidence, newest first."""
        return self._registry.history(KIND, name, alias)

    def move(
        self,
        reference: str,
        alias: str,
        *,
        actor: str,
        evidence: dict[str, Any] | None = None,
        reason: str | None = None,
        override_reason: str | None = None,
    ) -> Any:
        """Point an alias at a version. A protected one needs evidence, or a reason to go without."""
        version = self.get(reference)
        return self._registry.move_alias(
            KIND,
            version.name,
            alias,
            version.number,
            actor=actor,
            evidence=evidence,
            reason=reason,
            override_reason=override_reason,
        )

    def rollback(self, name: str, alias: str, *, actor: str, reason: str | None = None) -> Any:
        """Take back the newest move of an alias that still stands."""
        return self._registry.rollback_alias(KIND, name, alias, actor=actor, reason=reason)

    # -- filling in

    def render(
        self,
        content: PromptContent,
        variables: Mapping[str, Any],
        *,
        history: Sequence[Mapping[str, Any]] = (),
    ) -> Rendered:
        """Return what a prompt makes of variables, its examples picked."""
        return render_prompt(
            content, variables, history=history, examples=self.picker.pick(content, variables, history)
        )

    def preview(
        self,
        prompt: str | PromptContent,
        variables: Mapping[str, Any],
        *,
        history: Sequence[Mapping[str, Any]] = (),
        model: str | None = None,
    ) -> Preview:
        """Return what a saved prompt, or one that is not saved, makes of variables, and how long that is."""
        version = self.get(prompt) if isinstance(prompt, str) else None
        content = prompt if isinstance(prompt, PromptContent) else None
        if content is None:
            assert version is not None
            content = version.content
        else:
            check_prompt(content)
        rendered = self.render(content, variables, history=history)
        tokens = count_tokens(rendered, model or content.model, self._parts.tokenizers)
        return Preview(rendered=rendered, tokens=tokens, version=None if version is None else version.label)

    def fetch(self, reference: str) -> tuple[PromptVersion, list[dict[str, Any]]]:
        """Return a version with the rows that its examples are picked from, for a program that fills it in itself.

        The rows are those of a dataset with fixed or drawn examples; the nearest need an embedding model, so a prompt
        that wants them is filled in here.
        """
        version = self.get(reference)
        few = version.content.few_shot
        if few is None or few.dataset is None or few.pick == "nearest":
            return version, []
        if few.pick == "fixed":
            return version, self.picker.pick(version.content, {})
        return version, self.picker.pool(few)

    # -- who uses it

    def pinned(self, content: PromptContent) -> PromptContent:
        """Return content as it would be saved: its dataset of examples pinned to a version."""
        return self._pin_examples(content)[0]

    def uses(self, name: str) -> PromptUses:
        """Return routes, prompts and registered things that use a prompt, and its newest call."""
        self._registry.aliases(KIND, name)  # raises for what is not there
        found: list[PromptUse] = []
        places = self._parts.places
        for route, models in (places.list_routes() if places is not None else {}).items():
            if route.startswith(f"{KIND}:"):
                continue
            found += [
                PromptUse(kind="route", name=route, reference=model)
                for model in models
                if _names(model, name)
            ]
        for other in self.list_prompts():
            if other.model is not None and _names(other.model, name):
                found.append(PromptUse(kind="prompt", name=other.name, reference=other.model))
        for version in self._registry.list_versions(KIND, name):
            label = f"{KIND}:{name}@{version.number}"
            found += [
                PromptUse(kind="version", name=f"{node.kind}:{node.name}@{node.number}", reference=label)
                for node in self._registry.lineage(label).down
            ]
        return PromptUses(uses=tuple(found), last_call=places.last_call(name) if places is not None else None)

    # -- inside

    def _aliases_at(self, version: KeptVersion) -> tuple[str, ...]:
        aliases = self._registry.aliases(KIND, version.name)
        return tuple(alias for alias, number in aliases.items() if number == version.number)

    def _latest_number(self, name: str) -> int | None:
        try:
            return self._registry.resolve(AssetRef(kind=KIND, name=name, alias="latest")).number
        except NotFound:
            return None

    def _pin_examples(self, content: PromptContent) -> tuple[PromptContent, list[str]]:
        few = content.few_shot
        if few is None or few.dataset is None or self._parts.rows is None:
            return content, []
        pinned = self._parts.rows.pin(few.dataset)
        few = msgspec.structs.replace(few, dataset=pinned)
        return msgspec.structs.replace(content, few_shot=few), [pinned]

    def _refuse_loops(self, name: str, model: str | None) -> None:
        def model_of(named: str) -> tuple[str, str | None] | None:
            if not named.startswith(f"{KIND}:"):
                return None
            try:
                version = self._registry.resolve(named)
            except NotFound:
                return prompt_ref(named).name, None
            return version.name, version.content.get("model")

        places = self._parts.places
        refuse_loops(
            name, model, model_of=model_of, routes=places.list_routes() if places is not None else {}
        )

    def _unknown(self, name: str, error: NotFound) -> NotFound:
        """Return the error for a name that is not there; `error` itself where only the version is not."""
        known = [asset.name for asset in self._registry.list_assets(KIND)]
        if name in known:
            return error
        hint = suggest(name, known) or (
            f"There are {', '.join(known[:20])}." if known else "There are none yet."
        )
        return UnknownPrompt(f"There is no prompt {name!r}.", hint=hint, prompt=name)


def prompt_version(version: KeptVersion, aliases: tuple[str, ...], *, is_new: bool = False) -> PromptVersion:
    """Return a version of the registry as one of a prompt."""
    return PromptVersion(
        name=version.name,
        number=version.number,
        digest=version.digest,
        content=msgspec.convert(version.content, PromptContent),
        note=version.note,
        created_ns=version.created_ns,
        aliases=aliases,
        parents=version.parents,
        is_new=is_new,
    )


def _names(model: str, name: str) -> bool:
    return model.partition("@")[0] == f"{KIND}:{name}"
