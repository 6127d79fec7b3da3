"""Makes the version of a deployment's process ready to be hosted: digests checked, renderer proven."""

import msgspec

from penstock.deploy.deployments.types import SeatSpec
from penstock.main.embedded import ModelRooms
from penstock.providers.engines.types import HostedModel
from penstock.tuning.errors import DigestMismatch


def host_version(rooms: ModelRooms, reference: str, *, adapters: tuple[str, ...] = ()) -> HostedModel:
    """Return a version with its renderer, proven against the golden vectors of its registration.

    Raises what makes it unfit to be served: `DigestMismatch`, `UnreadableModel`, and what the registry raises.
    """
    return rooms.models.host_version(rooms.models.serve_version(reference, adapters=adapters))


def host_seat(rooms: ModelRooms, seat: SeatSpec) -> HostedModel:
    """Return the version of a process under the name it answers to, at the context that was asked for."""
    adapters = tuple(each.label for each in seat.adapters)
    hosted = host_version(rooms, seat.model.label, adapters=adapters)
    if hosted.served.digest != seat.model.digest:
        raise DigestMismatch(
            f"{seat.model.label} is not the version that was to be deployed.",
            expected=seat.model.digest,
            seen=hosted.served.digest,
        )
    context_length = hosted.served.context_length
    if seat.context_length is not None:
        context_length = min(seat.context_length, seat.model.context_length)
    served = msgspec.structs.replace(hosted.served, name=seat.served_name, context_length=context_length)
    return HostedModel(served=served, renderer=hosted.renderer)
