"""The act of signing: a live session, the components of 21 CFR 11.200, one row and one audit event."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.auth import CHALLENGE_S, AccessDeniedError, NotSignedInError
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

    from digital_twins.auth import Assertion, Authority, User

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


@dataclass(frozen=True, slots=True)
class PendingSignature:
    """A signature that waits for its authenticator.

    Attributes
    ----------
    signature_id
        It will have this id.
    manifest
        What will be signed; its SHA-256 is the challenge.
    options
        What the browser needs to ask the authenticator (``PublicKeyCredentialRequestOptions`` as JSON).
    """

    signature_id: str
    manifest: SignatureManifest
    options: dict[str, Any]


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
    def authority(self) -> Authority:
        """Accounts and sessions."""
        return self._authority

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
        manifest = self._manifest(content, components, user, shown, record, meaning)
        return self._keep(manifest, components.session, patient_id)

    def prepare(
        self, content: bytes, components: SigningComponents, *, record: str, meaning: Meaning
    ) -> PendingSignature:
        """Begin a signature whose second component is an authenticator; `complete` makes it.

        Parameters
        ----------
        content, record, meaning
            As for `sign`.
        components
            Name and password for the first signature of a session; later ones may leave them out.

        Raises
        ------
        NotSignedInError, AccessDeniedError, InputError
            As for `sign`; InputError too where the account has no authenticator.
        MissingExtraError
            The extra ``webauthn`` is not installed.
        """
        user, shown = self._signer(components, authenticator=True)
        manifest = self._manifest(content, components, user, shown, record, meaning)
        options = self._authority.authenticators.request(user.name, manifest.sha256)
        now = int(self._authority.records.now())
        self._authority.records.database.write(
            lambda cursor: _store.keep_pending(
                cursor, manifest, components.session, now=now, until=now + CHALLENGE_S
            )
        )
        return PendingSignature(manifest.signature_id, manifest, options)

    def complete(
        self,
        content: bytes,
        session: str,
        *,
        pending: str,
        credential: dict[str, Any],
        patient_id: str | None = None,
    ) -> ElectronicSignature:
        """Make the signature that `prepare` began, with the answer of the authenticator; one answer each.

        Parameters
        ----------
        content
            The record's bytes, as they were then.
        session
            Digest of the same session.
        pending
            `PendingSignature.signature_id`.
        credential
            What the browser returned (``PublicKeyCredential`` as JSON).
        patient_id
            As for `sign`.

        Raises
        ------
        NotSignedInError
            The session has ended, nothing waits under that id, or the answer is refused.
        InputError
            The record was changed meanwhile.
        ConflictError
            As for `sign`.
        """
        user = self._user(session)
        now = int(self._authority.records.now())
        manifest = self._authority.records.database.write(
            lambda cursor: _store.take_pending(cursor, pending, session, now=now)
        )
        if manifest is None or manifest.signer != user.name:
            self._refuse(f"user:{user.name}", "pending")
            raise NotSignedInError(
                "The record was not signed.",
                "Nothing waits for this answer, or no longer.",
                "Begin the signature again.",
            )
        if hashlib.sha256(content).hexdigest() != manifest.record_sha256:
            self._refuse(f"user:{user.name}", "record")
            raise InputError(
                "The record was not signed.", "It was changed meanwhile.", "Read it again, then sign."
            )
        assertion = self._authority.authenticators.check(user.name, credential, manifest.sha256)
        return self._keep(manifest, session, patient_id, assertion)

    def evidence(self, signature: ElectronicSignature) -> str | None:
        """Return the answer of the authenticator to a manifest; None: there was a code instead."""
        return _store.evidence_of(self._authority.records.database, signature.manifest.signature_id)

    def _keep(
        self,
        manifest: SignatureManifest,
        session: str,
        patient_id: str | None,
        assertion: Assertion | None = None,
    ) -> ElectronicSignature:
        """Store a signature with its event, in one transaction."""
        signature = seal(manifest, self._key)
        records = self._authority.records
        detail: dict[str, str | int] = {
            "meaning": manifest.meaning,
            "record_sha256": signature.manifest.record_sha256,
            "signature": signature.manifest.signature_id,
            "manifest_sha256": manifest.sha256.hex(),
        }
        if assertion is not None:
            detail["authenticator"] = assertion.credential[:16]
        event = records.auditor.acting(f"user:{manifest.signer}").event(
            "C", KIND, entity=manifest.record, patient_id=patient_id, detail=detail
        )

        def work(cursor: apsw.Cursor) -> None:
            _store.insert(cursor, signature, session)
            if assertion is not None:
                self._authority.authenticators.spend_in(cursor, assertion)
                _store.insert_evidence(cursor, manifest.signature_id, assertion.evidence)
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

    def _user(self, session: str) -> User:
        found = self._authority.sessions.alive(session) if session else None
        if found is None:
            self._refuse("anonymous", "session")
            raise NotSignedInError(
                "The record was not signed.", "The session has ended.", "Sign in and sign again."
            )
        return found[0]

    def _signer(
        self, components: SigningComponents, *, authenticator: bool = False
    ) -> tuple[User, tuple[str, ...]]:
        user = self._user(components.session)
        if components.name is not None and components.name != user.name:
            self._refuse(f"user:{user.name}", "name")
            raise AccessDeniedError(
                "The record was not signed.",
                "The name is not that of whose session this is.",
                "Everybody signs in a session of their own.",
            )
        shown = _shown(components) + (("authenticator",) if authenticator else ())
        second = "authenticator" if authenticator else "code"
        first = not _store.signed_in(self._authority.records.database, components.session, user.name)
        if (first and set(shown) != {"name", "password", second}) or (authenticator and "code" in shown):
            self._refuse(f"user:{user.name}", "components")
            raise InputError(
                "The record was not signed.",
                "The first signature of a session needs name, password and one-time code or authenticator.",
                "Show all three, and one second component.",
            )
        self._authority.accounts.confirm(
            user.name, password=components.password, code=components.code, authenticator=authenticator
        )
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
