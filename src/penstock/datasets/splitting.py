"""Which split a row belongs to: a number from the digest of its group and a seed, never its place in the file.

So rows that are added later change nothing for those that are there, equal rows in two versions land in the same split, and no
group is torn apart. The price: shares are met on average, not exactly; the counts that came out are told. With `stratify` the
groups are dealt out within each label, in the order of their numbers, which meets the shares of each label to within one group.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

from penstock.base.errors import InvalidInput
from penstock.datasets.fields import Unfit, shape_name
from penstock.datasets.rows import MAX_NAME_CHARS

_WHOLE = 1 << 64


def check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    """Return shares that add up to 1; raise `InvalidInput` for what cannot be split by."""
    if not shares:
        raise InvalidInput("Name at least one split.", hint="Such as train=0.8 test=0.2.", param="shares")
    for name, share in shares.items():
        try:
            shape_name(name, "split", MAX_NAME_CHARS)
        except Unfit as error:
            raise InvalidInput(f"{name!r} cannot be a split: {error}.", param="shares") from error
        if not 0 < share <= 1:
            raise InvalidInput(f"The share of {name!r} must be over 0 and at most 1.", param="shares")
    total = sum(shares.values())
    if abs(total - 1) > 1e-6:
        raise InvalidInput(
            f"The shares add up to {total:g}, not to 1.", hint="Such as train=0.8 test=0.2.", param="shares"
        )
    return dict(shares)


def place_of(key: str, seed: int) -> float:
    """Return a number from 0 to 1 that follows from a key and a seed."""
    digest = blake2b(f"{seed}\x00{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _WHOLE


def split_at(place: float, shares: Mapping[str, float]) -> str:
    """Return the split that owns a place between 0 and 1."""
    end = 0.0
    name = ""  # the last one owns what rounding leaves
    for name, share in shares.items():
        end += share
        if place < end:
            return name
    return name


def assign(shares: Mapping[str, float], seed: int) -> Callable[[str], str]:
    """Return the function from a group's key to its split."""
    return lambda key: split_at(place_of(key, seed), shares)


def assign_by_label(
    labelled: Iterable[tuple[str, str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return group key to split, with each label's groups dealt out by share; a group's label is its commonest."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for key, label in labelled:
        labels[key][label] += 1
    by_label: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for key, found in labels.items():
        label = max(sorted(found), key=found.__getitem__)
        by_label[label].append((place_of(key, seed), key))
    assigned: dict[str, str] = {}
    for members in by_label.values():
        members.sort()
        for number, (_, key) in enumerate(members):
            assigned[key] = split_at((number + 0.5) / len(members), shares)
    return assigned
