"""The key of an installation's receipts: it signs them, and it turns names of subjects into digests that nobody else can guess.

One file of the home, made when first needed and part of every backup. The digest of a subject is keyed, because names
such as e-mail addresses could otherwise be found by trying.
"""

import hashlib
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from penstock.base.digest import digest_bytes
from penstock.traces.upkeep.errors import ReceiptInvalid

_SEED_BYTES = 32
_DIGEST_BYTES = 16


class SignedReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt with its signature. `content` is the receipt's JSON text, byte for byte what was signed."""

    content: str
    digest: str
    signature: str
    public_key: str


class PrivacyKey:
    """Signs receipts and digests subjects. Never shown."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._digest_key = hashlib.sha256(seed + b"subjects").digest()
        self.digest = lru_cache(maxsize=16_384)(self._digest)
        """Returns the digest of a subject: `digest(kind, id)`, 32 hex characters."""

    def __repr__(self) -> str:
        return "PrivacyKey()"

    @classmethod
    def load(cls, path: Path) -> "PrivacyKey":
        """Return the key in a file, made when missing; of several that make it at once one wins."""
        if not path.exists():
            _write_once(path, f"{secrets.token_hex(_SEED_BYTES)}\n")
        try:
            seed = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            raise ReceiptInvalid(
                f"{path} holds no key for receipts.", hint="Put it back from a backup."
            ) from error
        return cls(seed)

    @property
    def public_key(self) -> str:
        """What others verify receipts with, in hex."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        raw: bytes = self._private().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return raw.hex()

    def sign(self, content: str) -> SignedReceipt:
        """Return the receipt with its signature."""
        data = content.encode()
        signature: bytes = self._private().sign(data)
        return SignedReceipt(
            content=content,
            digest=digest_bytes(data),
            signature=signature.hex(),
            public_key=self.public_key,
        )

    def _private(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(self._seed + b"receipts").digest())

    def _digest(self, kind: str, subject_id: str) -> str:
        text = f"{kind}\0{subject_id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._digest_key, digest_size=_DIGEST_BYTES).hexdigest()


def is_signed_by(receipt: SignedReceipt, public_key: str) -> bool:
    """Return whether the content is what the holder of a key signed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(receipt.signature), receipt.content.encode())
    except (InvalidSignature, ValueError):
        return False
    return receipt.digest == digest_bytes(receipt.content.encode())


def _write_once(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        return
    finally:
        Path(name).unlink(missing_ok=True)
