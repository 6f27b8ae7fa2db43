"""The act of signing: a live session, the components of 21 CFR 11.200, one row and one audit event."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.auth import AccessDeniedError, NotSignedInError
from digital_twins.crypto import SigningKey, VerifierKey, load_signing_key
from digital_twins.governance.signatures import _store
from digital_twins.governance.signatures._manifest import (
    ElectronicSignature,
    Meaning,
    SignatureManifest,
    seal,
    signature_problems,
)

if TYPE_CHECKING:
    from pathlib import Path

    import apsw

    from digital_twins.auth import Authority, User

KIND = "governance.signature"
"""Kind of the audit events of signatures, given or refused."""


@dataclass(frozen=True, slots=True)
class SigningComponents:
    """What a signer shows.

    Attributes
    ----------
    session
        Digest of the live session, as `digital_twins.auth.Principal.session` holds it.
    name, password, code
        Sign-in name, password and one-time code. The first signature of a session needs all three, each
        later one the password or a code (21 CFR 11.200(a)(1)); what is shown must be right.
    """

    session: str
    name: str | None = None
    password: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)


class Signatures:
    """The electronic signatures of a node.

    Only accounts with one-time codes can sign: who resets a password, or runs the node, has not the
    signer's device, so two people would have to act together (21 CFR 11.200(a)(3)).

    Parameters
    ----------
    authority
        Accounts and sessions; its database has `SIGNATURE_MIGRATIONS`.
    key
        The node's Ed25519 key, as `signature_key` loads it.
    """

    def __init__(self, authority: Authority, key: SigningKey) -> None:
        self._authority = authority
        self._key = key

    @property
    def verifier(self) -> VerifierKey:
        """Public key with which anybody verifies the signatures."""
        return self._key.verifier

    def sign(
        self,
        content: bytes,
        components: SigningComponents,
        *,
        record: str,
        meaning: Meaning,
        patient_id: str | None = None,
    ) -> ElectronicSignature:
        """Sign a record: one row and one audit event in one transaction, durable when it returns.

        Parameters
        ----------
        content
            The record's bytes.
        components
            What the signer shows.
        record
            Reference of the record, without patient data.
        meaning
            Why it is signed.
        patient_id
            Whose record it is; leaves as a pseudonym, in the audit event only.

        Raises
        ------
        NotSignedInError
            The session has ended, or a component is wrong; failures count towards the lock of the account.
        AccessDeniedError
            Another name than that of the session was shown.
        InputError
            A component is missing, or a text cannot be used.
        ConflictError
            The same person has signed this content with this meaning.
        """
        user, shown = self._signer(components)
        signature = seal(self._manifest(content, components, user, shown, record, meaning), self._key)
        records = self._authority.records
        detail: dict[str, str | int] = {
            "meaning": meaning,
            "record_sha256": signature.manifest.record_sha256,
            "signature": signature.manifest.signature_id,
            "manifest_sha256": hashlib.sha256(signature.manifest.to_json().encode()).hexdigest(),
        }
        event = records.auditor.acting(f"user:{user.name}").event(
            "C", KIND, entity=record, patient_id=patient_id, detail=detail
        )

        def work(cursor: apsw.Cursor) -> None:
            _store.insert(cursor, signature, components.session)
            records.auditor.stage(cursor, event)

        records.database.write(work)
        return signature

    def of(self, record: str) -> tuple[ElectronicSignature, ...]:
        """Return the signatures of a record, oldest first."""
        return _store.of_record(self._authority.records.database, record)

    def between(self, start: datetime, end: datetime) -> tuple[ElectronicSignature, ...]:
        """Return the signatures from `start` (included) to `end` (excluded), in UTC, oldest first."""
        bounds = (f"{each.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for each in (start, end))
        return _store.between(self._authority.records.database, *bounds)

    def problems(self, signature: ElectronicSignature, content: bytes | None) -> tuple[str, ...]:
        """Return what is wrong with a signature of this node; see `signature_problems`."""
        return signature_problems(signature, content, key=self.verifier)

    def _signer(self, components: SigningComponents) -> tuple[User, tuple[str, ...]]:
        found = self._authority.sessions.alive(components.session) if components.session else None
        if found is None:
            self._refuse("anonymous", "session")
            raise NotSignedInError(
                "The record was not signed.", "The session has ended.", "Sign in and sign again."
            )
        user = found[0]
        if components.name is not None and components.name != user.name:
            self._refuse(f"user:{user.name}", "name")
            raise AccessDeniedError(
                "The record was not signed.",
                "The name is not that of whose session this is.",
                "Everybody signs in a session of their own.",
            )
        shown = _shown(components)
        first = not _store.signed_in(self._authority.records.database, components.session, user.name)
        if first and set(shown) != {"name", "password", "code"}:
            self._refuse(f"user:{user.name}", "components")
            raise InputError(
                "The record was not signed.",
                "The first signature of a session needs name, password and one-time code.",
                "Show all three.",
            )
        self._authority.accounts.confirm(user.name, password=components.password, code=components.code)
        return user, shown

    def _manifest(
        self,
        content: bytes,
        components: SigningComponents,
        user: User,
        shown: tuple[str, ...],
        record: str,
        meaning: Meaning,
    ) -> SignatureManifest:
        now = datetime.fromtimestamp(self._authority.records.now(), tz=UTC)
        return SignatureManifest(
            record=record,
            record_sha256=hashlib.sha256(content).hexdigest(),
            meaning=meaning,
            signer=user.name,
            printed_name=user.display,
            signed_utc=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            components=shown,
            session=hashlib.sha256(components.session.encode()).hexdigest()[:16],
            signature_id=uuid.uuid4().hex,
        )

    def _refuse(self, agent: str, why: str) -> None:
        records = self._authority.records
        event = records.auditor.acting(agent).event("C", KIND, outcome="refused", detail={"why": why})
        records.database.write(lambda cursor: records.auditor.stage(cursor, event))


def signature_key(data_dir: Path) -> SigningKey:
    """Return the key with which a node signs manifests: ``signatures.key`` of its folder, made at first use.

    Raises
    ------
    StorageError
        The file cannot be made or read, or others may read it.
    """
    return load_signing_key(data_dir / "signatures.key", purpose="signatures")


def _shown(components: SigningComponents) -> tuple[str, ...]:
    parts = ("name", components.name), ("password", components.password), ("code", components.code)
    return tuple(name for name, value in parts if value is not None)
