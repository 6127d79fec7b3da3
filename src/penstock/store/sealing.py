"""Secrets at rest: sealed with AES-256-GCM under the installation's master key, bound to a name and a host.

A sealed text is `psk1.KEYID.ORIGIN.DATA`: which master key opens it, the origin (`https://api.example.com`) it may be
sent to, and nonce with ciphertext. Name and origin are authenticated with it, so that neither a renamed row nor an
edited address makes it open.

The master key file holds one key a line, `KEYID HEX`. The first seals; the others still open what they sealed, which
is how a change of the master key survives being killed half-way.
"""

import base64
import binascii
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from penstock.base.errors import CallerError, ConflictError
from penstock.base.files import write_atomic

MASTER_KEY_VARIABLE = "PENSTOCK_MASTER_KEY_FILE"
_FORM = "psk1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_USUAL_PORTS: dict[str, int | None] = {
    "http": 80,
    "https": 443,
    # places that documents are read from, and servers of indexes
    "postgresql": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "mssql": 1433,
    "oracle": 1521,
    "snowflake": None,
    "s3": None,
    "s3a": None,
    "gs": None,
    "gcs": None,
    "az": None,
    "abfs": None,
    "abfss": None,
    "sftp": 22,
    "smb": 445,
}


class MasterKeyUnusable(CallerError):
    """The master key file is missing, not readable, or holds no key."""

    code = "PS-1690"


class SealBroken(ConflictError):
    """A sealed secret does not open: another master key sealed it, or it is for another name or host."""

    code = "PS-3690"


@dataclass(frozen=True)
class MasterKeys:
    """The keys of a master key file, newest first. Never shown."""

    keys: tuple[tuple[str, bytes], ...]

    def __repr__(self) -> str:
        return f"MasterKeys({', '.join(key_id for key_id, _ in self.keys)})"

    @property
    def current_id(self) -> str:
        """Id of the key that seals."""
        return self.keys[0][0]

    def seal(self, text: str, *, name: str, origin: str) -> str:
        """Return `text` sealed for `name`, to be sent to `origin` only."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, key = self.keys[0]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data = nonce + AESGCM(key).encrypt(nonce, text.encode(), _bound_to(name, origin))
        return f"{_FORM}.{key_id}.{_write_base64(origin.encode())}.{_write_base64(data)}"

    def open(self, sealed: str, *, name: str, origin: str) -> str:
        """Return the text; raise `SealBroken` when key, name or origin are not those it was sealed with."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, bound, data = _parts(sealed)
        key = dict(self.keys).get(key_id)
        if key is None:
            raise SealBroken(
                f"The secret {name!r} was sealed with the master key {key_id}, which is not here.",
                hint=f"Put that master key back, or enter the secret again: penstock secret set {name}",
            )
        if bound != origin:
            raise SealBroken(
                f"The secret {name!r} was entered for {bound} and is not sent to {origin}.",
                hint=f"Enter it again: penstock secret set {name} --url {origin}",
            )
        try:
            text = AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bound_to(name, origin))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(
                f"The secret {name!r} does not open: it was changed, or sealed for another name.",
                hint=f"Enter it again: penstock secret set {name}",
            ) from error
        return text.decode()


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address in one form, the usual port left out; "" for no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host or parts.scheme not in _USUAL_PORTS:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{'' if port in {None, _USUAL_PORTS[parts.scheme]} else f':{port}'}"


def sealed_origin(sealed: str) -> str | None:
    """Return the origin a sealed text is for, or None when it is none."""
    try:
        return _parts(sealed)[1]
    except SealBroken:
        return None


def sealing_key_id(sealed: str) -> str | None:
    """Return the id of the master key that sealed a text, or None when it is none."""
    try:
        return _parts(sealed)[0]
    except SealBroken:
        return None


def master_key_path(default: Path, environ: Mapping[str, str]) -> Path:
    """Return where the master key lies: in the home, or where PENSTOCK_MASTER_KEY_FILE says."""
    named = environ.get(MASTER_KEY_VARIABLE, "").strip()
    return Path(named).expanduser() if named else default


def new_master_key() -> tuple[str, bytes]:
    """Return a fresh key with its id."""
    return f"mk{secrets.token_hex(4)}", secrets.token_bytes(_KEY_BYTES)


def read_master_keys(path: Path) -> MasterKeys:
    """Return the keys in `path`; raise `MasterKeyUnusable`."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise MasterKeyUnusable(
            f"The master key {path} cannot be read: {reason}.",
            hint=f"Put it back, or name it in {MASTER_KEY_VARIABLE}; without it sealed secrets stay closed.",
            path=str(path),
        ) from error
    found: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        key_id, _, digits = line.strip().partition(" ")
        try:
            key = binascii.unhexlify(digits)
        except ValueError:
            key = b""
        if not key_id.isalnum() or len(key) != _KEY_BYTES:
            raise MasterKeyUnusable(
                f"The master key {path} line {number} holds no key.",
                hint="A line is an id, a space and 64 hex digits.",
                path=str(path),
            )
        found.append((key_id, key))
    if not found:
        raise MasterKeyUnusable(f"The master key {path} is empty.", path=str(path))
    return MasterKeys(tuple(found))


def write_master_keys(path: Path, keys: MasterKeys) -> None:
    """Replace the file whole; only its owner may read it."""
    text = "".join(f"{key_id} {key.hex()}\n" for key_id, key in keys.keys)
    write_atomic(path, text.encode(), mode=0o600)


@contextmanager
def lock_master_keys(path: Path) -> Iterator[None]:
    """Keep others from changing the file, or sealing with a key that is about to go, while inside."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_master_keys(path: Path) -> MasterKeys:
    """Return the keys in `path`, making the first one once: of several processes that try, one wins."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_id, key = new_master_key()
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        write_atomic(draft, f"{key_id} {key.hex()}\n".encode(), mode=0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
    return read_master_keys(path)


def _parts(sealed: str) -> tuple[str, str, bytes]:
    form, _, rest = sealed.partition(".")
    pieces = rest.split(".")
    if form != _FORM or len(pieces) != 3:
        raise SealBroken("This is no sealed secret.")
    try:
        return pieces[0], _read_base64(pieces[1]).decode(), _read_base64(pieces[2])
    except ValueError as error:
        raise SealBroken("This is no sealed secret.") from error


def _bound_to(name: str, origin: str) -> bytes:
    return f"penstock secret\n{name}\n{origin}".encode()


def _write_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _read_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
