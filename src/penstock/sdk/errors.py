"""What the SDK raises: wrong settings, prompts that are nowhere, searches that fail. Nothing else of it ever raises into its
program."""

from penstock.base.errors import CallerError, UpstreamUnavailable


class SdkSettingInvalid(CallerError):
    """`penstock.configure` was given a value that means nothing."""

    code = "PS-1751"


class PromptUnavailable(UpstreamUnavailable):
    """A prompt could not be fetched, and there is no copy of it in memory or on disk, nor one to fall back to."""

    code = "PS-4240"


class RetrievalRefused(CallerError):
    """A search was refused: its key, its base, its filter or a limit; the text is the gateway's own."""

    code = "PS-1523"


class RetrievalFailed(UpstreamUnavailable):
    """The gateway could not be asked, or could not search."""

    code = "PS-4520"
