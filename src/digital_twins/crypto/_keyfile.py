"""A signing key in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, StorageError
from digital_twins.crypto._keys import SigningKey
from digital_twins.crypto._secret_file import create_secret_file

if TYPE_CHECKING:
    import os


def load_signing_key(path: str | os.PathLike[str], *, purpose: str) -> SigningKey:
    """Return the key of a file; at first use a random one is made, readable by its owner alone (mode 0600).

    Of two processes that start at once both get the same key. The new key's name is
    ``digital-twins/<purpose>-<16 hexadecimal digits of SHA-256 of the public key>``: unique, and it says
    nothing about the hospital.

    Parameters
    ----------
    path
        File of the key, one line ``PRIVATE+KEY+name+keyid+base64``.
    purpose
        Word in the name of a new key, e.g. ``"audit"``.

    Raises
    ------
    StorageError
        The file cannot be made or read, other users may read it, or it holds no key.
    """
    target = Path(path)
    try:
        if not target.exists():
            _create(target, purpose)
        open_to_others = target.stat().st_mode & 0o077
        text = target.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(target, f"the file cannot be read or made ({type(error).__name__})") from error
    if open_to_others:
        raise _unusable(target, "other users of this machine may read it")
    try:
        return SigningKey.from_text(text)
    except InputError as error:
        raise _unusable(target, "it does not hold a signing key") from error


def _create(target: Path, purpose: str) -> None:
    secret = secrets.token_bytes(32)
    public = SigningKey("new", secret).verifier.public
    key = SigningKey(f"digital-twins/{purpose}-{hashlib.sha256(public).hexdigest()[:16]}", secret)
    create_secret_file(target, key.to_text().encode() + b"\n")


def _unusable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"The signing key '{path.name}' cannot be used.",
        f"{why[0].upper()}{why[1:]}.",
        f"Restore the file from the backup and run: chmod 600 {path.name}",
    )
