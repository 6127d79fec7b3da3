"""What can go wrong when a search is described. A search itself does not fail: it finds less and says why."""

from penstock.base.errors import CallerError, UpstreamError, UpstreamTimeout


class BadFilter(CallerError):
    """A filter cannot be read; the text points at the place."""

    code = "PS-1485"


class BadSearchRecipe(CallerError):
    """A search recipe asks for what cannot be: a weight outside 0 to 1, a second look that is not there."""

    code = "PS-1486"


class NoQuestions(CallerError):
    """There are too few labelled questions to measure or tune with."""

    code = "PS-1487"


class BadRerank(UpstreamError):
    """A second look answered with something that is no score for each passage."""

    code = "PS-4485"


class RerankTimeout(UpstreamTimeout):
    """A second look took longer than its recipe allows."""

    code = "PS-4486"
