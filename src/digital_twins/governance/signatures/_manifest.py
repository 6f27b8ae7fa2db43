"""What an electronic signature states, as canonical JSON that the node signs with Ed25519."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from digital_twins._errors import InputError
from digital_twins.crypto import SigningKey, VerifierKey

Meaning = Literal["authorship", "review", "approval", "responsibility"]
"""What a signature means (21 CFR 11.50(a)(3) names these four)."""

FORM = "digital-twins/signature/1"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True, slots=True)
class SignatureManifest:
    """Who signed which content with which meaning, and when: the content of 21 CFR 11.50 and 11.70.

    Parameters
    ----------
    record
        Reference of the record, e.g. ``"twin/8f0c/3/report.pdf"``.
    record_sha256
        SHA-256 of the record's bytes in hex: it ties the signature to this content and no other.
    meaning
        One of `Meaning`.
    signer
        Sign-in name, which is never given to anybody else.
    printed_name
        Name as it is printed.
    signed_utc
        Time in UTC to the second, e.g. ``"2026-11-25T22:00:00Z"``.
    components
        What the signer showed: ``"name"``, ``"password"``, ``"code"``, ``"authenticator"``.
    session
        Sixteen hex digits that name the continuous period of access.
    signature_id
        Unique, 32 hex digits.
    form
        Version of this form.

    Raises
    ------
    InputError
        A field has another form, or a text holds control characters.
    """

    record: str
    record_sha256: str
    meaning: Meaning
    signer: str
    printed_name: str
    signed_utc: str
    components: tuple[str, ...]
    session: str
    signature_id: str
    form: str = FORM

    def __post_init__(self) -> None:
        texts = (self.record, self.signer, self.printed_name, self.session, self.signature_id)
        plain = all(isinstance(text, str) and text and text.isprintable() for text in texts)
        if not plain or self.form != FORM or self.meaning not in get_args(Meaning) or not self.components:
            raise _refused("a field is empty, unknown or holds control characters")
        if not _DIGEST.fullmatch(self.record_sha256) or not _TIME.fullmatch(self.signed_utc):
            raise _refused("its digest or its time has another form")

    def to_json(self) -> str:
        """Return the canonical form: keys sorted, no spaces, UTF-8 (RFC 8785 for strings)."""
        fields = {**asdict(self), "components": list(self.components)}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes: what an authenticator is asked to answer."""
        return hashlib.sha256(self.to_json().encode()).digest()

    @classmethod
    def from_json(cls, text: str) -> SignatureManifest:
        """Return the manifest of its canonical form; raises ValueError, TypeError, KeyError or InputError."""
        fields = json.loads(text)
        return cls(**{**fields, "components": tuple(fields["components"])})


@dataclass(frozen=True, slots=True)
class ElectronicSignature:
    """A manifest with the node's Ed25519 signature (RFC 8032) over its canonical bytes.

    Parameters
    ----------
    manifest
        What is stated.
    signature
        64 bytes.
    verifier
        Public key that belongs to it; whoever verifies must know from elsewhere that it is the node's.
    """

    manifest: SignatureManifest
    signature: bytes
    verifier: VerifierKey

    def to_json(self) -> str:
        """Return the document to hand on: manifest, signature (base64) and verifier key."""
        parts = {
            "manifest": json.loads(self.manifest.to_json()),
            "signature": base64.b64encode(self.signature).decode("ascii"),
            "verifier_key": self.verifier.to_text(),
        }
        return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ElectronicSignature:
        """Return the signature of a document; it is not checked yet.

        Raises
        ------
        InputError
            The text is no such document.
        """
        try:
            parts: dict[str, Any] = json.loads(text)
            manifest = SignatureManifest.from_json(json.dumps(parts["manifest"]))
            signature = base64.b64decode(parts["signature"], validate=True)
            made = cls(manifest, signature, VerifierKey.from_text(parts["verifier_key"]))
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            raise _refused("it is not the JSON document of a signature") from error
        if made.to_json() != text.rstrip("\n"):  # base64 and JSON have several spellings of one content
            raise _refused("it is not written in the canonical form")
        return made


def seal(manifest: SignatureManifest, key: SigningKey) -> ElectronicSignature:
    """Let the node's key sign a manifest."""
    return ElectronicSignature(manifest, key.sign(manifest.to_json().encode()), key.verifier)


def signature_problems(
    signature: ElectronicSignature, content: bytes | None, *, key: VerifierKey
) -> tuple[str, ...]:
    """Check a signature with nothing but a public key, and return what is wrong; empty: nothing.

    Parameters
    ----------
    signature
        As `ElectronicSignature.from_json` returns it.
    content
        Bytes of the record; None checks the statement alone.
    key
        The node's verifier key, known from elsewhere.
    """
    found = []
    if signature.verifier != key:
        found.append("it was made with another key than the node's")
    if not key.verify(signature.manifest.to_json().encode(), signature.signature):
        found.append("the statement was changed, or the node did not sign it")
    if content is not None and hashlib.sha256(content).hexdigest() != signature.manifest.record_sha256:
        found.append("it belongs to another record, or the record was changed")
    return tuple(found)


def _refused(why: str) -> InputError:
    return InputError(
        "The signature cannot be used.",
        f"{why[0].upper()}{why[1:]}.",
        "Take the document as the node wrote it.",
    )
