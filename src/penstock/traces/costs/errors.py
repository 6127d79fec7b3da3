"""What can be wrong with a question about money."""

from penstock.base.errors import InvalidInput, NotFound, PolicyError


class UnknownCall(NotFound):
    """The ledger has no billed call with this id."""

    code = "PS-1661"


class UnknownDimension(InvalidInput):
    """Costs cannot be grouped by this."""

    code = "PS-1662"


class UnreadableExport(InvalidInput):
    """A provider's export is in no known form, or a value in it cannot be read."""

    code = "PS-1663"


class BillDiffers(PolicyError):
    """The provider's export and the ledger differ by more than the tolerance."""

    code = "PS-2661"
