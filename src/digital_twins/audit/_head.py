"""The checkpoint file beside the trail: how many events there were, and the chain hash of the last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SLOT_BYTES = 128
START = bytes(32)
"""Chain hash before the first event."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """Number of events, and the chain hash after the last of them."""

    size: int
    chain: bytes


class HeadFile:
    """Two slots that are overwritten in turn, each with a check sum: a torn write leaves the other one.

    Processes that append to one trail share the file; a smaller head never replaces a larger one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """Return the largest valid head; None when the file is missing or holds none."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        heads = [_parse(content[start : start + _SLOT_BYTES]) for start in (0, _SLOT_BYTES)]
        return max((head for head in heads if head), key=lambda head: head.size, default=None)

    def advance(self, head: Head) -> None:
        """Write and sync a head unless a larger one stands there."""
        with self._locked() as descriptor:
            content = os.pread(descriptor, 2 * _SLOT_BYTES, 0)
            sizes = []
            for start in (0, _SLOT_BYTES):
                known = _parse(content[start : start + _SLOT_BYTES])
                sizes.append(-1 if known is None else known.size)
            if max(sizes) >= head.size:
                return
            os.pwrite(descriptor, _format(head), _SLOT_BYTES * sizes.index(min(sizes)))
            os.fdatasync(descriptor)

    def set_aside(self) -> None:
        """Keep a head that contradicts the trail as evidence; `verify_trail` reports it from then on."""
        stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S%f")
        evidence = self.path.with_name(f"{self.path.name}.suspect-{stamp}")
        try:
            self.path.rename(evidence)
        except FileNotFoundError:
            evidence.write_text(
                "the head file was missing although the trail held events\n", encoding="ascii"
            )

    def suspects(self) -> list[Path]:
        """Return the heads set aside so far."""
        return sorted(self.path.parent.glob(f"{self.path.name}.suspect-*"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _format(head: Head) -> bytes:
    text = f"{head.size} {head.chain.hex()}"
    check = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text} {check}".encode().ljust(_SLOT_BYTES - 1) + b"\n"


def _parse(slot: bytes) -> Head | None:
    try:
        size, chain, check = slot.decode("ascii").split()
        if hashlib.sha256(f"{size} {chain}".encode()).hexdigest()[:16] != check:
            return None
        return Head(int(size), bytes.fromhex(chain))
    except ValueError:
        return None
