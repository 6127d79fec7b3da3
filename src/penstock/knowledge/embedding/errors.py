"""What can go wrong between a text and its vector, by whose fault it is."""

from penstock.base.errors import CallerError, ConflictError, NotFound, UpstreamError
from penstock.knowledge.errors import UnusableEmbedding


class UnknownEmbedder(NotFound):
    """A recipe names a route that does not exist or does not embed."""

    code = "PS-1441"


class MixedEmbedder(CallerError):
    """A route may be answered by different models, whose vectors do not compare."""

    code = "PS-1442"


class RefusedEmbedding(UpstreamError):
    """The model refuses a text, or the call as it is; trying again will not help."""

    code = "PS-4440"


class EmbeddingBusy(UpstreamError):
    """The model kept saying that it has no room until the time for it was over."""

    code = "PS-4441"


class WrongDimensions(UnusableEmbedding):
    """The model answers with vectors of another length than the recipe or the vectors that are there."""

    code = "PS-4442"


class ChangedEmbedder(ConflictError):
    """Another model or version answered than the one that a build has begun with."""

    code = "PS-3440"
