"""The tables of a `KeyRegister` and what is written to them: wrapped keys, and nothing of a patient."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins.crypto import DecryptionError, WrappedKey, canonical_context
from digital_twins.storage._migrations import Migration

if TYPE_CHECKING:
    import apsw

    from digital_twins.crypto import KeyProvider

MIGRATIONS = (
    Migration(
        "storage.keys.0001",
        """
        CREATE TABLE root_key(
            id TEXT PRIMARY KEY, provider TEXT NOT NULL, key_id TEXT NOT NULL, wrapped BLOB NOT NULL,
            created_utc TEXT NOT NULL
        );
        CREATE TABLE data_key(
            id TEXT PRIMARY KEY, owner TEXT NOT NULL, root TEXT NOT NULL, wrapped BLOB NOT NULL,
            created_utc TEXT NOT NULL, destroyed_utc TEXT NOT NULL DEFAULT ''
        );
        CREATE UNIQUE INDEX data_key_owner ON data_key(owner) WHERE destroyed_utc = '';
        CREATE INDEX data_key_root ON data_key(root);
        CREATE TABLE register_state(name TEXT PRIMARY KEY, value TEXT NOT NULL);
        """,
    ),
)
KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key of 32 bytes and its id, 32 hexadecimal digits."""

    key_id: str
    key: bytes


CURRENT = "SELECT id FROM root_key ORDER BY rowid DESC LIMIT 1"


def new_root(provider: KeyProvider) -> tuple[str, bytes, WrappedKey]:
    """Return id and key of a new root, and the key as the provider wrapped it."""
    root_id, root = secrets.token_hex(16), secrets.token_bytes(KEY_BYTES)
    return root_id, root, provider.wrap(root, {"object": f"root {root_id}"})


def insert_root(cursor: apsw.Cursor, root_id: str, wrapped: WrappedKey) -> None:
    """Write a root key."""
    cursor.execute(
        "INSERT INTO root_key(id, provider, key_id, wrapped, created_utc) VALUES (?, ?, ?, ?, ?)",
        (root_id, wrapped.provider, wrapped.key_id, wrapped.wrapped, timestamp()),
    )


def insert_key(cursor: apsw.Cursor, key: DataKey, owner: str, root_id: str, root: bytes) -> None:
    """Write a data key of an owner, wrapped by a root."""
    cursor.execute(
        "INSERT INTO data_key(id, owner, root, wrapped, created_utc) VALUES (?, ?, ?, ?, ?)",
        (key.key_id, owner, root_id, wrap(root, key.key, key.key_id, owner), timestamp()),
    )


def set_state(cursor: apsw.Cursor, name: str, value: str | None) -> None:
    """Write a note of the register; None removes it."""
    cursor.execute("DELETE FROM register_state WHERE name = ?", (name,))
    if value is not None:
        cursor.execute("INSERT INTO register_state(name, value) VALUES (?, ?)", (name, value))


def wrap(root: bytes, key: bytes, key_id: str, owner: str) -> bytes:
    """Return nonce and ciphertext of a data key; its id and its owner are bound to it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(root).encrypt(nonce, key, canonical_context({"id": key_id, "owner": owner}))


def unwrap(root: bytes, wrapped: bytes, key_id: str, owner: str) -> bytes:
    """Return a data key.

    Raises
    ------
    DecryptionError
        Its row was changed.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(root).decrypt(
            wrapped[:_NONCE_BYTES],
            wrapped[_NONCE_BYTES:],
            canonical_context({"id": key_id, "owner": owner}),
        )
    except (InvalidTag, ValueError):
        raise DecryptionError("Its key in the register was changed: restore keys.sqlite.") from None


def timestamp() -> str:
    """Return the time as the register writes it, UTC."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")
