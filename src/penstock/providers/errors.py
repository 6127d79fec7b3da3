"""What can go wrong on the way to a provider. Texts name the provider's host, never a key."""

from penstock.base.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable


class ConnectFailed(UpstreamUnavailable):
    """No connection could be made: refused, unreachable, name unknown, TLS failed. Nothing was sent."""

    code = "PS-4210"


class AddressForbidden(ConnectFailed):
    """The provider's name leads to an address that calls are never sent to: link-local, or a cloud's metadata."""

    code = "PS-4217"


class ConnectTimeout(UpstreamTimeout):
    """No connection within the connect timeout. Nothing was sent."""

    code = "PS-4211"


class FirstByteTimeout(UpstreamTimeout):
    """The request was sent, and no response head came within the first-byte timeout."""

    code = "PS-4212"


class CallTimeout(UpstreamTimeout):
    """The reply was not complete within the deadline of the whole call."""

    code = "PS-4213"


class ConnectionLost(UpstreamError):
    """The provider closed or reset the connection before its reply was complete."""

    code = "PS-4214"


class BrokenReply(UpstreamError):
    """The provider answered something that is not HTTP, or whose encoding is damaged, or that is too large."""

    code = "PS-4215"


class IdleTimeout(UpstreamTimeout):
    """The provider began to answer and then was silent for longer than its idle timeout."""

    code = "PS-4216"
