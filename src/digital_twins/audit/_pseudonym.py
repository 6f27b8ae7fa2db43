"""Patients in the audit trail: a keyed hash that only this node can recompute."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.crypto import create_secret_file

if TYPE_CHECKING:
    import os

_KEY_BYTES = 32


def pseudonym(patient_id: str, key: bytes) -> str:
    """Return HMAC-SHA256 of a patient identifier, in hex (RFC 2104).

    The same patient has the same pseudonym on one node and another one on every other node. Whoever holds
    the key can test a guessed identifier, so the key is as secret as the identifiers.
    """
    return hmac.digest(key, patient_id.encode(), "sha256").hex()


def load_pseudonym_key(path: str | os.PathLike[str]) -> bytes:
    """Return the node's key; at the first start a random one is made, readable by its owner alone.

    Of two processes that start at once both get the same key.

    Raises
    ------
    StorageError
        The file cannot be made or read, other users may read it, or it does not hold 32 bytes in hex.
    """
    target = Path(path)
    try:
        if not target.exists():
            create_secret_file(target, secrets.token_hex(_KEY_BYTES).encode() + b"\n")
        open_to_others = target.stat().st_mode & 0o077
        text = target.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(target, f"the file cannot be read or made ({type(error).__name__})") from error
    if open_to_others:
        raise _unusable(target, "other users of this machine may read it")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise _unusable(target, "it does not hold 64 hexadecimal digits")
    return key


def _unusable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"The pseudonym key '{path.name}' cannot be used.",
        f"{why[0].upper()}{why[1:]}.",
        f"Restore the file from the backup and run: chmod 600 {path.name}",
    )
