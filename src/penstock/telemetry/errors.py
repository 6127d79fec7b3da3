"""What can go wrong on the way of a span."""

from penstock.base.errors import CallerError, ConflictError, UpstreamError


class SpoolUnavailable(UpstreamError):
    """The disk did not take the records; nothing of them was acknowledged, so sending again is safe."""

    code = "PS-4901"
    status = 503


class SpoolInUse(ConflictError):
    """Another living writer holds this spool folder."""

    code = "PS-3901"


class MalformedTelemetry(CallerError):
    """The body is not the OTLP message that its content type announces."""

    code = "PS-1901"


class IngestBusy(UpstreamError):
    """More is acknowledged and waits to be stored than may wait; nothing of this request was taken."""

    code = "PS-4652"
    status = 503
