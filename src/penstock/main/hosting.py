"""Makes versions of models ready to be hosted: files on local disk, digests checked, renderer proven."""

import msgspec

from penstock.deploy.deployments.types import SeatSpec
from penstock.main.embedded import ModelRooms
from penstock.providers.engines.types import HostedModel
from penstock.spec.assets import parse_asset_ref
from penstock.tuning.errors import DigestMismatch
from penstock.tuning.models import load_served_renderer
from penstock.tuning.renderer import GoldenVector


def host_version(
    rooms: ModelRooms, reference: str, *, name: str, adapters: tuple[str, ...] = ()
) -> HostedModel:
    """Return a version under `name`, its renderer proven against the golden vectors of its registration.

    Raises what makes it unfit to be served: `DigestMismatch`, `UnreadableModel`, and what the registry raises.
    """
    served = rooms.models.serve_version(reference, adapters=adapters)
    version = rooms.registry.resolve(parse_asset_ref(reference))
    renderer = load_served_renderer(served)
    expected = version.content.get("renderer_digest")
    if expected is not None and renderer.digest != expected:
        raise DigestMismatch(
            f"The renderer of {version.label} is not the one it was registered with.",
            expected=expected,
            seen=renderer.digest,
        )
    renderer.check_golden(msgspec.convert(version.content.get("golden") or [], list[GoldenVector]))
    return HostedModel(served=msgspec.structs.replace(served, name=name), renderer=renderer)


def host_seat(rooms: ModelRooms, seat: SeatSpec) -> HostedModel:
    """Return the version of a deployment's process with its adapters, at the context that was asked for."""
    adapters = tuple(each.label for each in seat.adapters)
    hosted = host_version(rooms, seat.model.label, name=seat.served_name, adapters=adapters)
    if hosted.served.digest and hosted.served.digest != seat.model.digest:
        raise DigestMismatch(
            f"{seat.model.label} is not the version that was to be deployed.",
            expected=seat.model.digest,
            seen=hosted.served.digest,
        )
    if seat.context_length is None:
        return hosted
    context_length = min(seat.context_length, seat.model.context_length)
    return HostedModel(
        served=msgspec.structs.replace(hosted.served, context_length=context_length), renderer=hosted.renderer
    )
