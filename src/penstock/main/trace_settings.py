"""`[traces]` of `penstock.toml`: what is written into spans, where they are taken, and where they are sent on."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.deploy.section_types import BaseUrl, Port, Section, VariableName
from penstock.spec.masks import BuiltInMask, MaskPlace, MaskRule
from penstock.telemetry.finders import own_pattern

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
_Place = Literal["input", "output", "attributes", "identity", "all"]
_USUAL: tuple[_Place, ...] = ("input", "output", "attributes")
_ALL: tuple[MaskPlace, ...] = ("input", "output", "attributes", "identity")


class MaskSettings(Section):
    """`[[traces.masks]]`: what is made unreadable before anything is written."""

    name: _Name
    """Stands in brackets where something was replaced, unless `replacement` says otherwise."""
    builtin: BuiltInMask | None = None
    """`email`, `credit_card`, `iban`, `phone` or `api_key`; or else `pattern`."""
    pattern: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """A regular expression in RE2's syntax."""
    replacement: Annotated[str, Field(max_length=200)] = ""
    """What stands there instead; empty for the name in brackets."""
    where: list[_Place] = Field(default_factory=lambda: list(_USUAL), min_length=1)
    """Which parts of a span: `input`, `output`, `attributes` (with events, messages and tags), `identity` (user and
    session) or `all`."""
    project: _Name | None = None
    """Only spans of this project; unset: all."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                own_pattern(pattern)
            except ValueError as error:
                raise ValueError(f"is no pattern that can be used: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _check_finder(self) -> Self:
        if (self.pattern is None) == (self.builtin is None):
            raise ValueError("needs either builtin or pattern")
        return self

    def rule(self) -> MaskRule:
        """Return the rule as gateways and the collector use it."""
        return MaskRule(
            name=self.name,
            pattern=self.pattern,
            builtin=self.builtin,
            replacement=self.replacement,
            where=_ALL if "all" in self.where else tuple(place for place in _ALL if place in self.where),
            project=self.project,
        )


class ForwardSettings(Section):
    """`[[traces.forward]]`: where stored spans are sent on to, as OTLP over HTTP."""

    name: _Name
    """Names it on the page of the record's health, and its folder below `HOME/forward`."""
    url: BaseUrl
    """Where traces are taken there, such as `https://otel.example.com/v1/traces`."""
    headers_env: VariableName | None = None
    """Variable with headers as OpenTelemetry writes them, `authorization=Bearer%20…,x-team=a`."""
    encoding: Literal["protobuf", "json"] = "protobuf"
    """`protobuf`, which everybody takes, or `json`."""
    payloads: bool = True
    """Whether prompts and replies are sent too."""
    projects: list[_Name] = Field(default_factory=list)
    """Only spans of these; empty: all."""
    max_waiting_bytes: Annotated[int, Field(ge=1024 * 1024, le=1 << 40)] = 1024 * 1024 * 1024
    """While that much waits on disk, because the other side does not take it, newer spans are not sent on."""


_Days = Annotated[int, Field(ge=0, le=36_500)]


class RetentionSettings(Section):
    """`[traces.retention]`: what goes by age. What calls cost stays in the ledger, without what was said."""

    payload_days: _Days = 0
    """Prompts and replies older than this go, with the texts that search looks at; 0 keeps them."""
    span_days: _Days = 0
    """Traces whose last span is older than this go as a whole; 0 keeps them."""
    compact: bool = False
    """Whether the file is written anew after something went, so that it becomes smaller and holds no trace of it."""
    every_hours: Annotated[int, Field(ge=1, le=24 * 30)] = 24
    """How often this is looked at, and once soon after each start."""


class ProjectTraceSettings(Section):
    """`[traces.projects.NAME]`: what is different for one project."""

    capture_payloads: bool | None = None
    """Whether prompts and replies are kept; unset: as for all."""
    payload_days: _Days | None = None
    """Prompts and replies older than this go; 0 keeps them; unset: as for all."""
    span_days: _Days | None = None
    """Traces older than this go; 0 keeps them; unset: as for all."""


class TraceSettings(Section):
    """`[traces]`: what is written into spans."""

    capture_payloads: bool = True
    """Whether prompts and replies are kept in spans."""
    max_payload_bytes: Annotated[int, Field(ge=0, le=64 * 1024 * 1024)] = 1024 * 1024
    """Payloads over this are cut in the span, never in the call."""
    grpc_port: Port | None = None
    """Port that takes OTLP over gRPC, beside the console; unset: 4317 where that is free; 0: none."""
    max_waiting_bytes: Annotated[int, Field(ge=1024 * 1024, le=1 << 40)] = 512 * 1024 * 1024
    """While that much is acknowledged and not yet stored, senders are asked to wait."""
    estimate_cost: bool = True
    """Whether model calls that are sent in without a cost get an estimate from the price table."""
    retention: RetentionSettings = RetentionSettings()
    """`[traces.retention]`: what goes by age."""
    projects: dict[_Name, ProjectTraceSettings] = Field(default_factory=dict)
    """`[traces.projects.NAME]`: what is different for one project."""
    masks: list[MaskSettings] = Field(default_factory=list, max_length=200)
    """`[[traces.masks]]`: what is made unreadable before anything is written."""
    forward: list[ForwardSettings] = Field(default_factory=list, max_length=20)
    """`[[traces.forward]]`: where stored spans are sent on to."""
