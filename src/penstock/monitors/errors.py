"""What can be wrong with alerts and their delivery (codes PS-x97x)."""

from collections.abc import Iterable

from penstock.base.errors import CallerError, ConflictError, NotFound, UpstreamError, suggest


class UnknownMessage(NotFound):
    """No message in the outbox has this id."""

    code = "PS-1970"


class UnknownRule(NotFound):
    """No alert rule has this name."""

    code = "PS-1974"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(
            f"There is no alert {name[:80]!r}.",
            hint=suggest(name, names) or (f"Known: {', '.join(names)}." if names else "None was made yet."),
            name=name,
        )


class RuleInvalid(CallerError):
    """A rule contradicts itself, or asks what cannot be measured; the text names the setting."""

    code = "PS-1975"


class UnknownChannel(NotFound):
    """No channel has this name."""

    code = "PS-1976"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(
            f"There is no channel {name[:80]!r}.",
            hint=suggest(name, names) or (f"Known: {', '.join(names)}." if names else "None was made yet."),
            name=name,
        )


class ChannelInvalid(CallerError):
    """A channel lacks what its kind needs, or names what it must not; the text names the setting."""

    code = "PS-1977"


class ChannelInUse(ConflictError):
    """Rules still notify through the channel."""

    code = "PS-3973"

    def __init__(self, name: str, rules: Iterable[str]) -> None:
        users = sorted(rules)
        super().__init__(
            f"The channel {name!r} is used by {', '.join(users)}.",
            hint="Take it out of their `notify` first.",
            name=name,
            rules=users,
        )


class SecretMissing(CallerError):
    """A variable or sealed secret that a channel names is not there, or not for its host."""

    code = "PS-1979"


class AlertChanged(ConflictError):
    """Somebody else changed the rule or channel since it was read."""

    code = "PS-3972"

    def __init__(self, kind: str, name: str, version: int) -> None:
        super().__init__(
            f"The {kind} {name!r} is at version {version} by now.",
            hint="Read it again, and make the change anew.",
            name=name,
            version=version,
        )


class DeliveryFailed(UpstreamError):
    """A channel's server could not be reached, may not be reached, or did not take the message."""

    code = "PS-4971"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after_s: float | None = None,
        left: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.left = left
        """Recipients of a mail to whom it has still to go; None for all."""
