"""Ed25519 keys in the text forms of the C2SP signed-note specification and of Go's ``sumdb/note``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_KEY_BYTES = 32
_NAME = re.compile(r"[^\s+]+")
_SECRET_START = "PRIVATE+KEY+"  # noqa: S105  (a label of the format)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a signing key.

    Parameters
    ----------
    name
        Key name: no spaces, no plus sign.
    public
        Public key, 32 bytes (RFC 8032).

    Raises
    ------
    InputError
        The name or the key has another form.
    """

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.public) != _KEY_BYTES:
            raise _refused("its name has spaces or a plus sign, or it is not 32 bytes long")

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name, newline, 0x01, public key): C2SP signed-note, "Signatures"."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Tell whether an Ed25519 signature (64 bytes) belongs to the message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._loaded().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def to_text(self) -> str:
        """Return ``name+keyid+base64``, which may be published."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(_ED25519 + self.public)}"

    def to_pem(self) -> str:
        """Return the key as PEM (SubjectPublicKeyInfo, RFC 8410), for openssl and others."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._loaded().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> VerifierKey:
        """Return the key of ``name+keyid+base64``.

        Raises
        ------
        InputError
            The text is no Ed25519 verifier key, or its key id is not that of the key.
        """
        parts = text.strip().split("+", 2)
        key = cls(parts[0], _decoded(parts[-1]))
        if len(parts) != 3 or parts[1] != key.key_id.hex():
            raise _refused("its key id does not belong to it")
        return key

    def _loaded(self) -> Ed25519PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(self.public)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key with a name; its secret is never shown by ``repr``.

    Parameters
    ----------
    name
        Key name: no spaces, no plus sign.
    secret
        Seed of the key, 32 bytes (RFC 8032).

    Raises
    ------
    InputError
        The name or the seed has another form.
    """

    name: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.secret) != _KEY_BYTES:
            raise _refused("its name has spaces or a plus sign, or it is not 32 bytes long")

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return VerifierKey(
            self.name, self._loaded().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature, 64 bytes; the same message always gives the same (RFC 8032)."""
        return self._loaded().sign(message)

    def to_text(self) -> str:
        """Return ``PRIVATE+KEY+name+keyid+base64``: as secret as the key."""
        return f"{_SECRET_START}{self.name}+{self.verifier.key_id.hex()}+{_base64(_ED25519 + self.secret)}"

    @classmethod
    def from_text(cls, text: str) -> SigningKey:
        """Return the key of ``PRIVATE+KEY+name+keyid+base64``.

        Raises
        ------
        InputError
            The text is no Ed25519 signing key, or its key id is not that of the key.
        """
        text = text.strip()
        parts = text.removeprefix(_SECRET_START).split("+", 2)
        if not text.startswith(_SECRET_START) or len(parts) != 3:
            raise _refused("it has not the form PRIVATE+KEY+name+id+base64")
        key = cls(parts[0], _decoded(parts[2]))
        if parts[1] != key.verifier.key_id.hex():
            raise _refused("its key id does not belong to it")
        return key

    def _loaded(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.secret)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if data[:1] != _ED25519:
        raise _refused("it is not an Ed25519 key in base64")
    return data[1:]


def _refused(why: str) -> InputError:
    return InputError(
        "The key cannot be used.",
        f"{why[0].upper()}{why[1:]}.",
        "Copy the whole line of the key, as it was written.",
    )
