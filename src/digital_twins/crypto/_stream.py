"""AES-256-GCM over streams of any length, byte for byte the format of Tink's AES-GCM-HKDF streaming AEAD.

Format (Google Tink, "AES-GCM-HKDF Streaming AEAD", wire format; parameters of its template
``AES256_GCM_HKDF_1MB``): a header of one length byte, a salt of 32 bytes and a nonce prefix of 7 bytes, then
segments of 1 MiB, each sealed by AES-256-GCM under HKDF-SHA256(key, salt, associated data). The nonce of a
segment is prefix, segment number (4 bytes, big-endian) and a byte that is 1 in the last one: so a flipped
bit, a segment moved, left out, doubled or brought from another file, and a cut or lengthened file are all
refused.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from digital_twins._errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
SEGMENT_BYTES = 1 << 20
TAG_BYTES = 16
_SALT_BYTES = 32
_PREFIX_BYTES = 7
HEADER_BYTES = 1 + _SALT_BYTES + _PREFIX_BYTES
FIRST_PLAIN_BYTES = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
PLAIN_BYTES = SEGMENT_BYTES - TAG_BYTES
_MOST_SEGMENTS = 1 << 32


class DecryptionError(StorageError):
    """Encrypted bytes were changed, belong elsewhere, or another key made them; nothing of them is used."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "The encrypted data cannot be opened.",
            why,
            "Restore the file from the backup, and check which key and which object it belongs to.",
        )


def encrypt_stream(source: BinaryIO, target: BinaryIO, *, key: bytes, associated_data: bytes) -> int:
    """Encrypt what is left of a stream, segment by segment; memory stays at a few MiB.

    Parameters
    ----------
    source
        Plaintext, read to its end.
    target
        Receives the ciphertext.
    key
        Key of 32 bytes. One key may serve many streams: each derives its own from a random salt.
    associated_data
        Bytes that are not stored but must be the same at decryption, e.g. the name of the object.

    Returns
    -------
    int
        Bytes of plaintext read.

    Raises
    ------
    InputError
        The key is not 32 bytes long, or the stream is longer than 2^32 segments.
    """
    segments = Segments.new(key, associated_data)
    target.write(segments.header)
    sealed = memoryview(bytearray(SEGMENT_BYTES))
    total = 0
    for number, (plain, last) in enumerate(_cut(source, FIRST_PLAIN_BYTES, PLAIN_BYTES)):
        if number >= _MOST_SEGMENTS:
            raise InputError("The stream is too long to encrypt.", "It exceeds 4 PiB.", "Split it.")
        total += len(plain)
        piece = sealed[: len(plain) + TAG_BYTES]
        segments.cipher.encrypt_into(segments.nonce(number, last=last), plain, None, piece)
        target.write(piece)
    return total


def decrypt_stream(source: BinaryIO, target: BinaryIO, *, key: bytes, associated_data: bytes) -> int:
    """Decrypt what :func:`encrypt_stream` or Tink made; a segment is written only once it is verified.

    A cut at the end shows itself only there: use :func:`digital_twins.crypto.decrypt_file` where nothing of
    a cut file may be seen.

    Parameters
    ----------
    source
        Ciphertext, read to its end.
    target
        Receives the plaintext.
    key
        The key of 32 bytes that it was encrypted with.
    associated_data
        The bytes given at encryption.

    Returns
    -------
    int
        Bytes of plaintext written.

    Raises
    ------
    DecryptionError
        The ciphertext was changed, cut, lengthened or mixed, or key or associated data are others.
    InputError
        The key is not 32 bytes long.
    """
    from cryptography.exceptions import InvalidTag

    segments = Segments.read(source.read(HEADER_BYTES), key, associated_data)
    opened = memoryview(bytearray(PLAIN_BYTES))
    total = 0
    for number, (sealed, last) in enumerate(_cut(source, SEGMENT_BYTES - HEADER_BYTES, SEGMENT_BYTES)):
        if len(sealed) < TAG_BYTES:
            raise DecryptionError("It ends in the middle of a segment.")
        plain = opened[: len(sealed) - TAG_BYTES]
        try:
            segments.cipher.decrypt_into(segments.nonce(number, last=last), sealed, None, plain)
        except InvalidTag:
            raise DecryptionError(f"Segment {number} does not verify.") from None
        target.write(plain)
        total += len(plain)
    return total


@dataclass(frozen=True, slots=True)
class Segments:
    """What all segments of one stream share."""

    header: bytes
    prefix: bytes
    cipher: AESGCM

    @classmethod
    def new(cls, key: bytes, associated_data: bytes) -> Segments:
        salt, prefix = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_PREFIX_BYTES)
        header = bytes([HEADER_BYTES]) + salt + prefix
        return cls(header, prefix, _derived(key, salt, associated_data))

    @classmethod
    def read(cls, header: bytes, key: bytes, associated_data: bytes) -> Segments:
        if len(header) != HEADER_BYTES or header[0] != HEADER_BYTES:
            raise DecryptionError("It does not start as an encrypted stream does.")
        salt, prefix = header[1 : 1 + _SALT_BYTES], header[1 + _SALT_BYTES :]
        return cls(header, prefix, _derived(key, salt, associated_data))

    def nonce(self, number: int, *, last: bool) -> bytes:
        return self.prefix + number.to_bytes(4, "big") + bytes([last])


def _derived(key: bytes, salt: bytes, associated_data: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(key) != KEY_BYTES:
        raise InputError(
            "The key cannot be used.",
            f"AES-256 takes {KEY_BYTES} bytes, not {len(key)}.",
            "Give a whole key.",
        )
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, associated_data).derive(key))


def _cut(source: BinaryIO, first: int, following: int) -> Iterator[tuple[memoryview, bool]]:
    """Yield pieces and whether each is the last; an empty stream is one empty last piece.

    Two buffers take turns: a new one for every MiB would cost more than the cipher does.
    """
    buffer, spare = memoryview(bytearray(following)), memoryview(bytearray(following))
    piece = buffer[: _fill(source, buffer[:first])]
    while True:
        ahead = spare[: _fill(source, spare)]
        yield piece, not ahead
        if not ahead:
            return
        piece, buffer, spare = ahead, spare, buffer


def _fill(source: BinaryIO, buffer: memoryview) -> int:
    """Read until the buffer is full or the stream ends, although pipes and sockets give less at a time."""
    size = _readinto(source, buffer)
    filled = size
    while size and filled < len(buffer):
        size = _readinto(source, buffer[filled:])
        filled += size
    return filled


def _readinto(source: BinaryIO, buffer: memoryview) -> int:
    readinto = getattr(source, "readinto", None)
    if readinto is not None:
        return int(readinto(buffer) or 0)
    piece = source.read(len(buffer))
    buffer[: len(piece)] = piece
    return len(piece)
