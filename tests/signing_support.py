"""Accounts with one-time codes, sessions and a clock that the test moves, for tests of signatures."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from argon2 import PasswordHasher, profiles

from digital_twins.audit import OUTBOX_MIGRATIONS, Auditor
from digital_twins.auth import MIGRATIONS, Authority, open_authority
from digital_twins.auth._passwords import totp_code
from digital_twins.crypto import create_authority, issue_certificate
from digital_twins.governance import (
    SIGNATURE_MIGRATIONS,
    DocumentCertificate,
    Signatures,
    SigningComponents,
    signature_key,
)
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "correct horse battery staple"
PEOPLE = {
    "anna": ("clinician", "Dr Anna Ahlers"),
    "otto": ("physicist", "Otto Oßwald"),
    "adam": ("admin", ""),
}


@dataclass
class Desk:
    """A node's signatures without the node."""

    authority: Authority
    signatures: Signatures
    secrets: dict[str, str]
    clock: list[float] = field(default_factory=list)

    def session(self, name: str) -> str:
        """Sign in, and return the session's digest."""
        accounts, sessions = self.authority.accounts, self.authority.sessions
        user = accounts.get(name)
        assert user is not None
        found = sessions.find(sessions.start(user))
        assert found is not None
        return found[1].session

    def code(self, name: str) -> str:
        """The next unused one-time code: half a minute passes."""
        self.clock[0] += 30
        return totp_code(self.secrets[name], int(self.clock[0]) // 30)

    def all_of(self, name: str, session: str) -> SigningComponents:
        return SigningComponents(session, name=name, password=PASSWORD, code=self.code(name))

    def events(self) -> list[dict[str, Any]]:
        """Staged audit events."""
        import json

        with self.authority.records.database.read() as connection:
            rows = connection.execute("SELECT body FROM audit_outbox ORDER BY seq").fetchall()
        return [json.loads(str(row[0])) for row in rows]


@contextmanager
def signing_desk(folder: Path) -> Iterator[Desk]:
    migrations = (*OUTBOX_MIGRATIONS, *MIGRATIONS, *SIGNATURE_MIGRATIONS)
    clock = [1_774_000_000.0]
    cheap = PasswordHasher.from_parameters(profiles.CHEAPEST)  # the real cost is for guessers, not for tests
    with (
        patch("digital_twins.auth._passwords._hasher", lambda: cheap),
        Database(folder / "twin.sqlite", migrations=migrations) as database,
    ):
        authority = open_authority(
            database, Auditor("TWIN", bytes(32)), folder, base_url="http://127.0.0.1", now=lambda: clock[0]
        )
        secrets = {}
        for name, (role, display) in PEOPLE.items():
            secret = authority.accounts.add(name, password=PASSWORD, roles=[role], display=display)
            assert secret is not None
            secrets[name] = secret
        yield Desk(authority, Signatures(authority, signature_key(folder)), secrets, clock)


def document_certificate(folder: Path) -> DocumentCertificate:
    """A document certificate of an authority ``ca.pem`` in the folder."""
    create_authority(folder)
    made = issue_certificate(folder, "documents", purpose="document")
    return DocumentCertificate(made, made.with_suffix(".key"))
