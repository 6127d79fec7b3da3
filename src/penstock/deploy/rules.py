"""What a snapshot must fulfil as a whole. Pure: looks up no name and opens no connection."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal

from penstock.deploy.provider_rules import VARIABLE, provider_problems
from penstock.deploy.route_rules import RouteNames, route_problems
from penstock.deploy.row_problems import Found, RowKind, RowProblem, is_writable
from penstock.spec.limits import LimitRule
from penstock.spec.routes import KeyRow, PriceRow
from penstock.spec.snapshot import Limits, Snapshot
from penstock.spec.usage import TOKEN_CLASSES

KNOWN_SCOPES = frozenset({"call", "owner", "metrics", "prompts", "release", "internal"})
MAX_AMOUNT = 10**15
MAX_DECIMALS = 12
_SMALLEST = Decimal(1).scaleb(-MAX_DECIMALS)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def find_problems(snapshot: Snapshot) -> list[str]:
    """Return everything that is wrong, in the order of the snapshot; empty when it may be served."""
    return [str(problem) for problem in find_row_problems(snapshot)]


def find_row_problems(snapshot: Snapshot) -> list[RowProblem]:
    """Return everything that is wrong with the row each is about, so that its owner can be told."""
    return list(_problems(snapshot))


def _problems(snapshot: Snapshot) -> Iterator[RowProblem]:
    yield from _repeated("provider", (provider.name for provider in snapshot.providers))
    yield from _repeated("route", (route.name for route in snapshot.routes))
    yield from _repeated("key", (key.id for key in snapshot.keys))
    yield from _repeated("limit", (rule.name for rule in snapshot.limit_rules))
    yield from _repeated("price", (f"{price.provider}/{price.model}" for price in snapshot.prices))
    yield from _repeated_digests(snapshot.keys)
    providers = frozenset(provider.name for provider in snapshot.providers)
    names = RouteNames(snapshot.routes)
    for provider in snapshot.providers:
        yield from _of("provider", provider.name, provider_problems(provider, snapshot.secrets))
    for route in snapshot.routes:
        yield from _of("route", route.name, route_problems(route, providers, names))
    for key in snapshot.keys:
        yield from _of("key", key.id, _key_problems(key))
    for rule in snapshot.limit_rules:
        yield from _of("limit", rule.name, _rule_problems(rule))
    for price in snapshot.prices:
        yield from _of("price", f"{price.provider}/{price.model}", _price_problems(price))
    yield from _of("limits", "", _limit_problems(snapshot.limits))
    if snapshot.redis_url_env is not None and not VARIABLE.fullmatch(snapshot.redis_url_env):
        yield RowProblem(
            kind="limits", name="", message="redis_url_env is not the name of an environment variable"
        )


def _of(kind: RowKind, name: str, found: Iterable[Found]) -> Iterator[RowProblem]:
    for field, message in found:
        yield RowProblem(kind=kind, name=name, field=field, message=message)


def _repeated(kind: RowKind, names: Iterable[str]) -> Iterator[RowProblem]:
    for name, count in Counter(names).items():
        if count > 1:
            yield RowProblem(kind=kind, name=name, message=f"it stands there {count} times")


def _repeated_digests(keys: Iterable[KeyRow]) -> Iterator[RowProblem]:
    digests = [digest for key in keys for digest in (key.secret_sha256, key.previous_sha256) if digest]
    for digest, count in Counter(digests).items():
        if count > 1:
            yield RowProblem(
                kind="key",
                name=f"{digest[:8]}…",
                message=f"a secret of this digest stands there {count} times",
            )


def _key_problems(key: KeyRow) -> Iterator[Found]:
    if not _SHA256.fullmatch(key.secret_sha256):
        yield "secret_sha256", "secret_sha256 is not 64 hex characters"
    if key.previous_sha256 is not None:
        if not _SHA256.fullmatch(key.previous_sha256):
            yield "previous_sha256", "previous_sha256 is not 64 hex characters"
        if key.previous_until_ns is None:
            yield "previous_until_ns", "its text before the rotation has no end"
    if not key.scopes or not KNOWN_SCOPES.issuperset(key.scopes):
        yield "scopes", f"its scopes must be of {', '.join(sorted(KNOWN_SCOPES))}"
    for field in ("requests_per_minute", "tokens_per_minute"):
        value = getattr(key, field)
        if value is not None and value < 1:
            yield field, f"{field} must be at least 1, not {value}"
    if key.routes is not None and not key.routes:
        yield "routes", "it may call no route at all; leave routes out for all of them"


def _rule_problems(rule: LimitRule) -> Iterator[Found]:
    if not 1 <= len(rule.name) <= 80 or not rule.name.isascii() or not rule.name.isprintable():
        yield (
            "name",
            "its name must be 1 to 80 printable ASCII characters, because it stands in reply headers",
        )
    if rule.scope == "all" and rule.match is not None:
        yield "match", "the scope `all` has one counter, so match must be left out"
    if rule.match is not None and (not 1 <= len(rule.match) <= 256 or not rule.match.isprintable()):
        yield "match", "match must be 1 to 256 printable characters"
    amount = rule.amount
    if not amount.is_finite() or not 0 < amount <= MAX_AMOUNT:
        yield "amount", f"amount must be over 0 and at most {MAX_AMOUNT}, not {amount}"
        return
    if not is_writable(amount):
        yield "amount", f"amount has more than {MAX_DECIMALS} decimals or 30 digits"
        return
    if rule.unit != "usd" and amount != amount.to_integral_value():
        yield "amount", f"amount must be a whole number of {rule.unit}, not {amount}"
    if amount % _SMALLEST:
        yield "amount", f"amount has more than {MAX_DECIMALS} decimals"


def _price_problems(price: PriceRow) -> Iterator[Found]:
    if not price.provider or not price.provider.isprintable():
        yield "provider", "it names no provider"
    if not 1 <= len(price.model) <= 256 or not price.model.isprintable():
        yield "model", "its model must be 1 to 256 printable characters"
    if "*" in price.model[:-1]:
        yield "model", "a `*` may stand at the end of the model only"
    if not price.usd_per_million and price.usd_per_request is None:
        yield None, "it says no price"
    if unknown := sorted(set(price.usd_per_million) - set(TOKEN_CLASSES)):
        yield None, f"no usage class is called {', '.join(unknown)}; known: {', '.join(TOKEN_CLASSES)}"
    for name, rate in {**price.usd_per_million, "usd_per_request": price.usd_per_request}.items():
        if rate is None:
            continue
        if not (rate.is_finite() and 0 <= rate <= MAX_AMOUNT):
            yield name, f"{name} must not be negative"
        elif not is_writable(rate):
            yield name, f"{name} must have at most 30 digits, and be 0 or at least 10^-12"


def _limit_problems(limits: Limits) -> Iterator[Found]:
    for field in ("max_body_bytes", "max_file_bytes", "max_json_depth", "max_concurrent_calls"):
        if (value := getattr(limits, field)) < 1:
            yield field, f"{field} must be at least 1, not {value}"
    for field in ("max_payload_bytes", "max_project_file_bytes"):
        if getattr(limits, field) < 0:
            yield field, f"{field} must not be negative"
