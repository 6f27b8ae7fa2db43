"""Memory in which the bytes of a small file wait: they are written at once, past the page cache."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STAGE_BYTES = 2**21
_BLOCK_BYTES = 4096
DIRECT = getattr(os, "O_DIRECT", 0)
_KEPT = 8


class Stages:
    """Stages that are used again: touching fresh memory costs as much as filling it.

    Each has `STAGE_BYTES` and begins at a page, as direct writes need it. Threads may share one.
    """

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a stage that nobody else has; what it holds is of no meaning."""
        try:
            return self._free.pop()
        except IndexError:
            return _pages(STAGE_BYTES)

    def give(self, stage: memoryview) -> None:
        """Take a stage back."""
        if len(self._free) < _KEPT:
            self._free.append(stage)


def _pages(size: int) -> memoryview:
    """Return memory that begins at a page and that a forked process does not share."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def write_out(descriptor: int, content: memoryview, *, direct: bool) -> None:
    """Write the content of an empty file; raises OSError.

    Parameters
    ----------
    content
        The beginning of a stage.
    direct
        The file was opened with `DIRECT`: whole blocks go past the page cache, which saves a copy and the
        pages of that cache. The rest, and all later writes, do not.
    """
    position = 0
    if direct:
        blocks = len(content) // _BLOCK_BYTES * _BLOCK_BYTES
        if blocks:
            position = os.pwrite(descriptor, content[:blocks], 0)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
    while position < len(content):
        position += os.pwrite(descriptor, content[position:], position)


def direct_works(folder: Path) -> bool:
    """Whether this file system takes direct writes with a rest of another length behind them."""
    if not (DIRECT and hasattr(os, "O_TMPFILE")):
        return False
    page = _pages(2 * _BLOCK_BYTES)
    page[:] = os.urandom(len(page))
    content = page[: _BLOCK_BYTES + 1]
    try:
        descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE | DIRECT, 0o600)
    except OSError:
        return False
    try:
        write_out(descriptor, content, direct=True)
        return os.pread(descriptor, len(page), 0) == content
    except OSError:
        return False
    finally:
        os.close(descriptor)
