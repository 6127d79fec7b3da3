"""What can be wrong with keys (codes PS-x6xx, PS-x51x) and with secrets."""

from penstock.base.errors import ConflictError, NotFound


class UnknownKey(NotFound):
    """No key has this id."""

    code = "PS-1671"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no key {key_id!r}.", hint="`penstock key list` shows all.", key=key_id)


class LastOwnerKey(ConflictError):
    """The only key with scope `owner` cannot be revoked: nobody could make another over the network."""

    code = "PS-3671"


class KeyEnded(ConflictError):
    """The key was revoked, so nothing about it can change."""

    code = "PS-3511"


class UnknownSecret(NotFound):
    """No secret has this name."""

    code = "PS-1511"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no secret {name!r}.", hint="`penstock secret list` shows all.", name=name)


class SecretExists(ConflictError):
    """A secret that was to be created is there already."""

    code = "PS-3512"


class SecretInUse(ConflictError):
    """Providers use the secret, so it cannot go away or change its host."""

    code = "PS-3513"
