"""DICOM users and their passcodes as scrypt hashes (user identity, PS3.7 section D.3.3.7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_N, _R, _P, _BYTES = 2**14, 8, 5, 32
"""Work factors of OWASP's table for scrypt with 16 MiB; some 0.1 s of one core a check."""

_MEMORY = 64 * 2**20
_FIELDS = 4


def hash_passcode(passcode: str) -> str:
    """Return ``scrypt$<n>:<r>:<p>$<salt>$<hash>`` for the user table; a new salt each time."""
    salt = secrets.token_bytes(16)
    key = _derive(passcode.encode(), salt, (_N, _R, _P))
    return f"scrypt${_N}:{_R}:{_P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


class UserTable:
    """Users by name with their hashed passcodes.

    Parameters
    ----------
    users
        Name to what `hash_passcode` returned.

    Raises
    ------
    InputError
        A hash is not of that form.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name: _parse(name, text) for name, text in users.items()}
        # Someone who is not listed costs the same time, so that names cannot be guessed by it.
        self._nobody = _parse("", hash_passcode(secrets.token_hex(16)))

    @classmethod
    def read(cls, path: Path) -> UserTable:
        """Read a file with one ``name:hash`` a line; '#' begins a comment.

        Raises
        ------
        InputError
            The file cannot be read, or a line is not of that form.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"The DICOM user file '{path.name}' cannot be read.",
                f"The system answered {type(error).__name__}.",
                "Make it a readable text file with one name:hash a line ('twin dicom user' writes them).",
            ) from error
        pairs = [line.split(":", 1) for line in lines if line.strip() and not line.startswith("#")]
        if any(len(pair) != 2 for pair in pairs):
            raise InputError(
                f"The DICOM user file '{path.name}' cannot be used.",
                "A line is not of the form name:hash.",
                "Write lines as 'twin dicom user' prints them.",
            )
        return cls({name.strip(): text.strip() for name, text in pairs})

    def knows(self, name: str, passcode: bytes) -> bool:
        """Whether the passcode is the user's; takes some 0.1 s, whatever the answer."""
        factors, salt, expected = self._users.get(name, self._nobody)
        same = hmac.compare_digest(_derive(passcode, salt, factors), expected)
        return same and name in self._users


_Entry = tuple[tuple[int, int, int], bytes, bytes]


def _parse(name: str, text: str) -> _Entry:
    try:
        kind, factors, salt, key = text.split("$")
        n, r, p = (int(each) for each in factors.split(":"))
        entry = (n, r, p), base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    except ValueError:
        kind, entry = "", ((0, 0, 0), b"", b"")
    if kind != "scrypt" or len(entry[2]) != _BYTES or not entry[1]:
        raise InputError(
            f"The passcode of the DICOM user '{name}' cannot be used.",
            "It is no scrypt hash.",
            "Write the line that 'twin dicom user' prints.",
        )
    return entry


def _derive(passcode: bytes, salt: bytes, factors: tuple[int, int, int]) -> bytes:
    n, r, p = factors
    return hashlib.scrypt(passcode, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=_BYTES)
