"""Memory in which the bytes of a small file wait, so that they are written at once."""

from __future__ import annotations

import mmap

STAGE_BYTES = 2**21
_KEPT = 8


class Stages:
    """Stages that are used again: touching fresh memory costs as much as filling it.

    Each has `STAGE_BYTES`. Threads may share one pool; a forked process gets stages of its own.
    """

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a stage that nobody else has; what it holds is of no meaning."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(mmap.mmap(-1, STAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def give(self, stage: memoryview) -> None:
        """Take a stage back."""
        if len(self._free) < _KEPT:
            self._free.append(stage)
