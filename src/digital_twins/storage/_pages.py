"""SQLite files whose pages are encrypted, in the format of SQLCipher 4 with a raw key.

Each page of 4096 bytes is AES-256-CBC under a random initialisation vector, authenticated with HMAC-SHA-512
(Zetetic, "SQLCipher Design", version 4). The write-ahead log holds the same pages. The cipher
comes with SQLite3 Multiple Ciphers (MIT), which the package ``apsw-sqlite3mc`` brings; any SQLCipher 4 opens
the files with the key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import apsw

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

_CIPHER = "sqlcipher"
_VERSION = 4
"""Of SQLCipher's own format: without it the header of the first page stays partly in clear."""
_PLAIN_START = b"SQLite format 3\0"


def unlock(connection: apsw.Connection, key: bytes | None) -> None:
    """Give a fresh connection the key of its file; does nothing without one.

    Raises
    ------
    StorageError
        This apsw has no ciphers.
    apsw.NotADBError
        The file has another key, or none.
    """
    if key is None:
        return
    _check_ciphers()
    connection.execute(f"PRAGMA cipher = '{_CIPHER}'")
    connection.execute(f"PRAGMA legacy = {_VERSION}")
    connection.execute(f'PRAGMA key = "{_raw(key)}"')
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


def wrong_key(name: str) -> StorageError:
    """Return the error for an encrypted database whose key does not open it."""
    return StorageError(
        f"The database '{name}' is not opened.",
        "It is not encrypted with the key that keys.sqlite holds for it, or not encrypted at all.",
        "Restore database and keys.sqlite of the same data folder from the backup.",
    )


def is_plain(path: Path) -> bool:
    """Whether a file is a SQLite database in clear; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_PLAIN_START)) == _PLAIN_START


def write_encrypted_copy(source: Path, target: Path, key: bytes) -> None:
    """Write a database in clear, with what its log holds, into a new encrypted file that is on disk.

    Parameters
    ----------
    source
        Nobody else has it open.
    target
        Must not exist.
    key
        Key of 32 bytes.

    Raises
    ------
    StorageError
        This apsw has no ciphers.
    apsw.Error
        The disk is full, or the source is damaged.
    """
    _check_ciphers()
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(str(source), flags=flags)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        cipher = f"cipher={_CIPHER}&legacy={_VERSION}&hexkey={_raw(key).encode().hex()}"
        place = f"file:{quote(str(target.absolute()))}?{cipher}"
        connection.execute("VACUUM INTO ?", (place,))
        # Nothing may stay in the log: whoever puts the copy into the place of the source removes that.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raw(key: bytes) -> str:
    """Return a raw key as SQLCipher takes it: no passphrase, no key derivation of its own."""
    return f"x'{key.hex()}'"


def _check_ciphers() -> None:
    if not hasattr(apsw, "mc_version"):
        raise StorageError(
            "The database cannot be encrypted.",
            "The installed package 'apsw' has no ciphers.",
            "Run: pip uninstall apsw && pip install apsw-sqlite3mc",
        )
