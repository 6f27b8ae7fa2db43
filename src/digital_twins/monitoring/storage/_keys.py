"""Keys of the stores of an encrypted monitor: each has one of its own, derived from that of the monitor."""

from __future__ import annotations


def store_key(key: bytes | None, store: str) -> bytes | None:
    """Return the key of 32 bytes of one store: HKDF-SHA-256 (RFC 5869); None where nothing is encrypted.

    Parameters
    ----------
    key
        Of the monitor, 32 bytes; None: it is not encrypted.
    store
        Name of the store, e.g. ``"history"``.
    """
    if key is None:
        return None
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length=32, salt=None, info=f"digital-twins monitor {store}".encode()).derive(key)
