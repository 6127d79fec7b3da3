"""What can be wrong with keys (codes PS-x6xx)."""

from penstock.base.errors import ConflictError, NotFound


class UnknownKey(NotFound):
    """No key has this id."""

    code = "PS-1671"

    def __init__(self, key_id: str) -> None:
        super().__init__(f"There is no key {key_id!r}.", hint="`penstock key list` shows all.", key=key_id)


class LastOwnerKey(ConflictError):
    """The only key with scope `owner` cannot be revoked: nobody could make another over the network."""

    code = "PS-3671"
