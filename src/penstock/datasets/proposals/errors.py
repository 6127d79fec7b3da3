"""What can be wrong with proposals. PS-x230 to PS-x239 belong to the cleaning half of datasets."""

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError


class UnknownProposal(NotFound):
    """No proposal has this id."""

    code = "PS-1230"


class NoSeeds(CallerError):
    """There is no row or passage that a proposal of this kind could be made from."""

    code = "PS-1231"


class BadProposal(CallerError):
    """The edited fields are no row of the dataset's format."""

    code = "PS-1232"


class UnpricedModel(PolicyError):
    """A budget was set, but nobody knows what this model's calls cost, so it could not be held."""

    code = "PS-2230"
    status = 400


class ProposalDecided(ConflictError):
    """Somebody has already added or rejected the proposal."""

    code = "PS-3230"
