"""Keys of rows that all come from one: for a store whose patients are not erased by destroying a key."""

from __future__ import annotations

import hashlib
import hmac

from digital_twins.storage._key_rows import DataKey

_ID_BYTES = 16


class DerivedKeys:
    """Gives each owner a key by HKDF-SHA-256 (RFC 5869), and keeps nothing.

    Every process that has the key can open what another one wrote, on whichever machine it runs.

    Parameters
    ----------
    key
        32 random bytes.
    """

    migrating = True
    """A schema that is in clear is encrypted when it is opened."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def for_owner(self, owner: str) -> DataKey:
        """Return the key of an owner."""
        mark = hmac.new(self._key, b"digital-twins owner\0" + owner.encode(), hashlib.sha256)
        key_id = mark.hexdigest()[: 2 * _ID_BYTES]
        return DataKey(key_id, self.by_id(key_id))

    def by_id(self, key_id: str) -> bytes:
        """Return the key of an id; one that another key gave out leads to a key that opens nothing."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = f"digital-twins row {key_id}".encode()
        return HKDF(SHA256(), length=32, salt=None, info=info).derive(self._key)
