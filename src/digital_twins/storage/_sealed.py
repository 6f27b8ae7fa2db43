"""Encrypted blobs: who may open one stands in its first 512 bytes, then follows Tink's stream format.

Each file has a random data key of its own; the header holds it wrapped by the key of each owner (AES-256-GCM,
associated data: name of the blob and id of the owner's key). From byte 512 on the file is a stream of Tink's
AES256_GCM_HKDF_1MB with the associated data ``digital-twins blob``.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.crypto import DecryptionError, SealedReader, StreamSealer
from digital_twins.storage._key_register import COMMON, ErasedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from digital_twins.storage._key_register import KeyRegister
    from digital_twins.storage._key_rows import DataKey

HEADER_BYTES = 512
ASSOCIATED_DATA = b"digital-twins blob"
_MAGIC = b"DTBLOB1\n"
_SEGMENT_BYTES, _STREAM_HEADER_BYTES, _TAG_BYTES = 1 << 20, 40, 16
_KEY_BYTES, _NONCE_BYTES, _ID_BYTES = 32, 12, 16
_WRAPPED_BYTES = _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
_SLOT_BYTES = _ID_BYTES + _WRAPPED_BYTES
_SLOTS_AT = len(_MAGIC) + 1
_MOST_SLOTS = (HEADER_BYTES - _SLOTS_AT) // _SLOT_BYTES


def sealed_bytes(plain_bytes: int) -> int:
    """Return the length of the file of a blob of so many bytes."""
    room = _SEGMENT_BYTES - _TAG_BYTES
    segments = max(-(-(plain_bytes + _STREAM_HEADER_BYTES) // room), 1)
    return HEADER_BYTES + _STREAM_HEADER_BYTES + plain_bytes + segments * _TAG_BYTES


@dataclass(frozen=True, slots=True)
class BlobKeys:
    """Writes and reads the headers of encrypted blobs.

    Parameters
    ----------
    register
        Holds the keys of the owners.
    """

    register: KeyRegister

    def header(self, data_key: bytes, digest: str, owners: Iterable[str]) -> bytes:
        """Return the header of a blob for its owners; beyond six they share the key of nobody's data."""
        return self._header(data_key, digest, [self.register.for_owner(each) for each in owners])

    def widened(self, data_key: bytes, digest: str, owner: str, before: bytes) -> bytes:
        """Return the header of a fresh file for an owner and for those of the file that it replaces."""
        living = self._living(before, digest)
        if owner != COMMON:  # what is a patient's is not left open to the key that nobody destroys
            common = self.register.for_owner(COMMON).key_id
            living = [key for key in living if key.key_id != common]
        keys = {key.key_id: key for key in (self.register.for_owner(owner), *living)}
        if len(keys) > _MOST_SLOTS:
            return self.header(data_key, digest, [COMMON])
        return self._header(data_key, digest, list(keys.values()))

    def is_owner(self, header: bytes, digest: str, owner: str) -> bool:
        """Whether a header has a place for an owner's key; for nobody's data any living owner will do."""
        if owner == COMMON:
            return bool(self._living(header, digest))
        return self.register.for_owner(owner).key_id in {key_id for key_id, _ in _slots(header)}

    def data_key(self, header: bytes, digest: str) -> bytes:
        """Return the data key of a blob.

        Raises
        ------
        ErasedError
            Every owner's key was destroyed.
        DecryptionError
            The header is none, belongs to another blob, or was changed.
        """
        slots = _slots(header)
        if not slots:
            raise DecryptionError("It does not start as an encrypted blob does.")
        for key_id, wrapped in slots:
            try:
                return _unwrap(self.register.by_id(key_id), wrapped, digest, key_id)
            except ErasedError:
                continue
        raise ErasedError

    def open(self, path: str | os.PathLike[str], digest: str) -> SealedReader:
        """Open a blob for reading from any place; raises as `data_key`, and OSError."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            key = self.data_key(os.pread(descriptor, HEADER_BYTES, 0), digest)
            return SealedReader(descriptor, start=HEADER_BYTES, key=key, associated_data=ASSOCIATED_DATA)
        except BaseException:
            os.close(descriptor)
            raise

    def seal(self, data: bytes | memoryview, digest: str, owner: str) -> tuple[bytes, list[bytes]]:
        """Return the data key of a whole blob and the pieces of its file."""
        data_key = secrets.token_bytes(_KEY_BYTES)
        pieces = [self.header(data_key, digest, [owner])]
        stream = new_stream(lambda piece: pieces.append(bytes(piece)), data_key)
        stream.feed(data)
        stream.finish()
        return data_key, pieces

    def _header(self, data_key: bytes, digest: str, keys: Iterable[DataKey]) -> bytes:
        slots = [bytes.fromhex(key.key_id) + _wrap(key.key, data_key, digest, key.key_id) for key in keys]
        return (_MAGIC + bytes([len(slots)]) + b"".join(slots)).ljust(HEADER_BYTES, b"\0")

    def _living(self, header: bytes, digest: str) -> list[DataKey]:
        from digital_twins.storage._key_rows import DataKey

        found = []
        for key_id, wrapped in _slots(header):
            try:
                key = self.register.by_id(key_id)
                _unwrap(key, wrapped, digest, key_id)
            except (ErasedError, DecryptionError):
                continue
            found.append(DataKey(key_id, key))
        return found


def new_stream(write: Callable[[memoryview], None], data_key: bytes) -> StreamSealer:
    """Return what encrypts the content of a blob."""
    return StreamSealer(write, key=data_key, associated_data=ASSOCIATED_DATA)


def new_data_key() -> bytes:
    """Return a random key of 32 bytes."""
    return secrets.token_bytes(_KEY_BYTES)


def read_header(path: str | Path) -> bytes:
    """Return the first 512 bytes of a file; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, HEADER_BYTES, 0)
    finally:
        os.close(descriptor)


def _slots(header: bytes) -> list[tuple[str, bytes]]:
    """Return id and wrapped data key of each owner; nothing for what is no header."""
    if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
        return []
    count = min(header[len(_MAGIC)], _MOST_SLOTS)
    starts = range(_SLOTS_AT, _SLOTS_AT + count * _SLOT_BYTES, _SLOT_BYTES)
    return [(header[at : at + _ID_BYTES].hex(), header[at + _ID_BYTES : at + _SLOT_BYTES]) for at in starts]


def _wrap(key: bytes, data_key: bytes, digest: str, key_id: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, data_key, f"{digest} {key_id}".encode())


def _unwrap(key: bytes, wrapped: bytes, digest: str, key_id: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(
            wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], f"{digest} {key_id}".encode()
        )
    except InvalidTag:
        raise DecryptionError("Its data key was changed or belongs to another blob.") from None
