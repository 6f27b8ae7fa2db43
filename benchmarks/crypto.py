"""Encryption: MB of plaintext a CPU second, from memory to memory, one thread."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator

from digital_twins.crypto import decrypt_stream, encrypt_stream

Figure = tuple[str, float, str, float | None]
MEGABYTES = 256


class _Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing, so that the cipher is measured and not the memory."""

    def write(self, content) -> int:
        return len(content)


def figures() -> Iterator[Figure]:
    key = bytes(range(32))
    plain = random.Random(1).randbytes(1_000_000) * MEGABYTES
    sealed = io.BytesIO()
    encrypt_stream(io.BytesIO(plain), sealed, key=key, associated_data=b"bench")
    locked = sealed.getvalue()
    yield "encrypt_stream", _rate(encrypt_stream, plain, key), "MB/cpu_s", None
    yield "decrypt_stream", _rate(decrypt_stream, locked, key), "MB/cpu_s", None


def _rate(work, content: bytes, key: bytes) -> float:
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        work(io.BytesIO(content), _Nowhere(), key=key, associated_data=b"bench")
        best = max(best, MEGABYTES / (time.process_time() - start))
    return best
