"""Encrypts blobs and databases of a store in clear; broken off, it goes on when it is called again."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING

from digital_twins.storage._blobs import BlobStore
from digital_twins.storage._failures import from_os_error, from_sqlite
from digital_twins.storage._pages import is_plain, write_encrypted_copy
from digital_twins.storage._sealed import HEADER_BYTES, BlobKeys, read_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from digital_twins.storage._key_register import KeyRegister

_MODE = 0o440


def encrypt_blobs(
    root: Path,
    keys: KeyRegister,
    owner_of: Callable[[str], str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Encrypt every blob in clear; nobody else may have the store open.

    Each file is written beside its place, synced, and put there by a rename: after a crash a blob is in clear
    or encrypted, never half of each, and the next call goes on.

    Parameters
    ----------
    root
        Folder of the `BlobStore`.
    keys
        Of the owners.
    owner_of
        Gives the owner of a digest.
    progress
        Called with files looked at and in all.

    Returns
    -------
    tuple of int
        Blobs that were encrypted, and those of them whose bytes no longer match their name.

    Raises
    ------
    StorageError
        The disk is full, read-only or failing; call again once it is mended.
    """
    store = BlobStore(root, keys=keys)
    blob_keys = BlobKeys(keys)
    folders = [root / f"{number:02x}" for number in range(256)]
    total = sum(1 for folder in folders for _ in folder.iterdir())
    seen = sealed = damaged = 0
    for folder in folders:
        changed = False
        for path in sorted(folder.iterdir()):
            seen += 1
            digest = folder.name + path.name
            try:
                if not _is_sealed(blob_keys, path, digest):
                    data = path.read_bytes()
                    damaged += hashlib.sha256(data).hexdigest() != digest
                    _replace(
                        root / "tmp" / secrets.token_hex(8),
                        path,
                        blob_keys.seal(data, digest, owner_of(digest))[1],
                    )
                    sealed += 1
                    changed = True
            except OSError as error:
                raise from_os_error(error, "A blob could not be encrypted.") from error
            if progress is not None:
                progress(seen, total)
        if changed:
            _sync(folder)
    del store
    return sealed, damaged


def encrypt_database(path: Path, key: bytes) -> bool:
    """Put an encrypted copy into the place of a SQLite database in clear; False when it is not in clear.

    Nobody else may have it open. The copy appears whole, by a rename.

    Raises
    ------
    StorageError
        The disk is full, read-only or failing, or this apsw has no ciphers.
    """
    if not path.exists() or not is_plain(path):
        return False
    copy = path.with_name(f"{path.name}.encrypting")
    try:
        copy.unlink(missing_ok=True)
        write_encrypted_copy(path, copy, key)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        copy.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise from_os_error(error, f"The database '{path.name}' could not be encrypted.") from error
    except Exception as error:
        raise from_sqlite(error, f"The database '{path.name}' could not be encrypted.") from error
    return True


def _is_sealed(keys: BlobKeys, path: Path, digest: str) -> bool:
    from digital_twins.crypto import DecryptionError
    from digital_twins.storage._key_register import ErasedError

    try:
        keys.data_key(read_header(path), digest)
    except ErasedError:
        return True
    except DecryptionError:
        return False
    return path.stat().st_size > HEADER_BYTES


def _replace(temporary: Path, target: Path, pieces: list[bytes]) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.writelines(pieces)
            out.flush()
            os.fsync(out.fileno())
        temporary.chmod(_MODE)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
