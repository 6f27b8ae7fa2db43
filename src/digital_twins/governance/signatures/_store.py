"""The table of electronic signatures: rows are added, never changed, never removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError
from digital_twins.governance.signatures._manifest import ElectronicSignature, SignatureManifest
from digital_twins.storage import Migration

if TYPE_CHECKING:
    import apsw

    from digital_twins.storage import Database

SIGNATURE_MIGRATIONS = (
    Migration(
        "governance.0001.signatures",
        """
        CREATE TABLE governance_signature(
            id TEXT PRIMARY KEY,
            record TEXT NOT NULL,
            record_sha256 TEXT NOT NULL,
            meaning TEXT NOT NULL,
            signer TEXT NOT NULL,
            session TEXT NOT NULL,
            signed_utc TEXT NOT NULL,
            document TEXT NOT NULL,
            UNIQUE(record, record_sha256, meaning, signer)
        );
        CREATE INDEX governance_signature_session ON governance_signature(session, signer);
        CREATE TRIGGER governance_signature_no_update BEFORE UPDATE ON governance_signature
            BEGIN SELECT RAISE(ABORT, 'signatures are never changed'); END;
        CREATE TRIGGER governance_signature_no_delete BEFORE DELETE ON governance_signature
            BEGIN SELECT RAISE(ABORT, 'signatures are never removed'); END;
        """,
    ),
    Migration(
        "governance.0002.authenticators",
        """
        CREATE TABLE governance_pending(
            id TEXT PRIMARY KEY, session TEXT NOT NULL, manifest TEXT NOT NULL, expires INTEGER NOT NULL
        );
        CREATE TABLE governance_assertion(signature TEXT PRIMARY KEY, evidence TEXT NOT NULL);
        CREATE TRIGGER governance_assertion_no_update BEFORE UPDATE ON governance_assertion
            BEGIN SELECT RAISE(ABORT, 'signatures are never changed'); END;
        CREATE TRIGGER governance_assertion_no_delete BEFORE DELETE ON governance_assertion
            BEGIN SELECT RAISE(ABORT, 'signatures are never removed'); END;
        """,
    ),
)
"""Schema step of the table, for `digital_twins.storage.Database`."""


def signed_in(database: Database, session: str, signer: str) -> bool:
    """Whether somebody has signed in a session before."""
    with database.read() as connection:
        text = "SELECT 1 FROM governance_signature WHERE session=? AND signer=? LIMIT 1"
        return connection.execute(text, (session, signer)).fetchone() is not None


def insert(cursor: apsw.Cursor, signature: ElectronicSignature, session: str) -> None:
    """Add a row inside a transaction.

    Raises
    ------
    ConflictError
        The same person has signed the same content with the same meaning.
    """
    manifest = signature.manifest
    key = (manifest.record, manifest.record_sha256, manifest.meaning, manifest.signer)
    text = "SELECT 1 FROM governance_signature WHERE record=? AND record_sha256=? AND meaning=? AND signer=?"
    if cursor.execute(text, key).fetchone() is not None:
        raise ConflictError(
            "The record was not signed.",
            "The same person has signed this content with this meaning.",
            "Nothing has to be done.",
        )
    text = (
        "INSERT INTO governance_signature"
        "(record, record_sha256, meaning, signer, id, session, signed_utc, document) VALUES(?,?,?,?,?,?,?,?)"
    )
    row = (*key, manifest.signature_id, session, manifest.signed_utc, signature.to_json())
    cursor.execute(text, row)


def keep_pending(
    cursor: apsw.Cursor, manifest: SignatureManifest, session: str, *, now: int, until: int
) -> None:
    """Keep a manifest that waits for the answer of an authenticator; those that waited too long go."""
    cursor.execute("DELETE FROM governance_pending WHERE expires<=?", (now,))
    text = "INSERT INTO governance_pending(id, session, manifest, expires) VALUES(?,?,?,?)"
    cursor.execute(text, (manifest.signature_id, session, manifest.to_json(), until))


def take_pending(
    cursor: apsw.Cursor, signature_id: str, session: str, *, now: int
) -> SignatureManifest | None:
    """Return a manifest that waits, and let it wait no more: each may be answered once."""
    text = "DELETE FROM governance_pending WHERE id=? AND session=? AND expires>? RETURNING manifest"
    row = cursor.execute(text, (signature_id, session, now)).fetchone()
    return None if row is None else SignatureManifest.from_json(str(row[0]))


def insert_evidence(cursor: apsw.Cursor, signature_id: str, evidence: str) -> None:
    """Keep what an authenticator answered."""
    cursor.execute(
        "INSERT INTO governance_assertion(signature, evidence) VALUES(?,?)", (signature_id, evidence)
    )


def evidence_of(database: Database, signature_id: str) -> str | None:
    """Return what an authenticator answered; None for a signature with a one-time code."""
    with database.read() as connection:
        text = "SELECT evidence FROM governance_assertion WHERE signature=?"
        row = connection.execute(text, (signature_id,)).fetchone()
    return None if row is None else str(row[0])


def of_record(database: Database, record: str) -> tuple[ElectronicSignature, ...]:
    """Return the signatures of a record, oldest first."""
    with database.read() as connection:
        text = "SELECT document FROM governance_signature WHERE record=? ORDER BY signed_utc, id"
        rows = connection.execute(text, (record,)).fetchall()
    return tuple(ElectronicSignature.from_json(str(row[0])) for row in rows)


def between(database: Database, start: str, end: str) -> tuple[ElectronicSignature, ...]:
    """Return the signatures of a period, oldest first; the bounds are times as the manifests hold them."""
    with database.read() as connection:
        text = (
            "SELECT document FROM governance_signature WHERE signed_utc>=? AND signed_utc<? "
            "ORDER BY signed_utc, id"
        )
        rows = connection.execute(text, (start, end)).fetchall()
    return tuple(ElectronicSignature.from_json(str(row[0])) for row in rows)
