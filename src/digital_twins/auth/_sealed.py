"""Secrets of accounts encrypted at rest: the database alone, or its backup, gives no one-time codes."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING

from digital_twins.crypto import DecryptionError, LocalKeyFile, WrappedKey

if TYPE_CHECKING:
    from pathlib import Path


class SealedSecrets:
    """Seals short secrets with AES-256-GCM under a key outside of the database, bound to the account's name.

    Parameters
    ----------
    path
        File of the keys, of mode 0600; made at first use.
    """

    def __init__(self, path: Path) -> None:
        self._keys = LocalKeyFile(path)

    def seal(self, name: str, secret: str) -> str:
        """Return what is stored of the secret of an account."""
        held = self._keys.wrap(secret.encode(), {"totp": name})
        return json.dumps({"key": held.key_id, "sealed": base64.b64encode(held.wrapped).decode()})

    def reveal(self, name: str, stored: str) -> str:
        """Return the secret of an account.

        Raises
        ------
        DecryptionError
            It was changed, or belongs to another account or key.
        """
        try:
            row = json.loads(stored)
            held = WrappedKey(self._keys.name, row["key"], base64.b64decode(row["sealed"], validate=True))
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise DecryptionError("It is not a sealed secret.") from None
        return self._keys.unwrap(held, {"totp": name}).decode()

    @staticmethod
    def sealed(stored: str) -> bool:
        """Whether a stored text is sealed; before version 1 secrets stood there as they are (base32)."""
        return stored.startswith("{")
