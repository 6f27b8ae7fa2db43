"""Rows checked 256 at a time, as long as nothing is wrong with them; the half of it in other processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import islice, pairwise
from operator import contains
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from digital_twins.audit._head import START, Head
from digital_twins.audit._merkle import HASH_BYTES, TILE, complete
from digital_twins.audit._reading import reading
from digital_twins.storage import stream

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    import apsw

BEFORE_ALL = -(1 << 63)
"""Below every row number, also below those that somebody made up."""
_LEAST_TILES = 512
"""For fewer, starting another process would take longer than the check."""
_MOST_PROCESSES = 8
_WHILE_STARTING = 192
"""Tiles that this process checks in the quarter of a second in which another one starts."""
ROWS = "SELECT seq, event_id, body, leaf, chain FROM audit_event WHERE seq > ? ORDER BY seq"
_LEAF = hashlib.sha256(b"\0")


def good_tiles(connection: apsw.Connection, start: Head) -> Generator[tuple[bytes, bytes]]:
    """Give root and last chain hash of each tile behind `start`; end at one that is incomplete or wrong."""
    rows = stream(connection, ROWS, (start.size or BEFORE_ALL,))
    size, chain = start.size, start.chain
    while len(batch := list(islice(rows, TILE))) == TILE:
        leaves = _unchanged(batch, size, chain)
        if leaves is None:
            return
        size, chain = size + TILE, batch[-1][4]
        yield complete(leaves), chain


def _unchanged(batch: Sequence[tuple[Any, ...]], size: int, chain: bytes) -> Sequence[bytes] | None:
    """Return the leaves if every row is as it was written; None if any is not."""
    sha256, begun = hashlib.sha256, _LEAF.copy
    seqs, event_ids, bodies, stored, chains = zip(*batch, strict=True)
    leaves = []
    try:
        for body in bodies:
            leaf = begun()
            leaf.update(body.encode())
            leaves.append(leaf.digest())
        # Each link is recomputed from the stored one before it: together they are the chain.
        before = (chain, *chains[:-1])
        links = [sha256(link + leaf).digest() for link, leaf in zip(before, leaves, strict=True)]
    except (AttributeError, TypeError, UnicodeEncodeError):
        return None
    good = (
        tuple(leaves) == stored
        and tuple(links) == chains
        and seqs == tuple(range(size + 1, size + 1 + len(batch)))
        and all(map(contains, bodies, [f'"event_id":"{event_id}"' for event_id in event_ids]))
    )
    return leaves if good else None


class Helpers:
    """Processes that check later rows of a trail meanwhile; what they do not answer is checked again here.

    A helper reads the stored chain hash before its first row and says which it was, so that its answer
    counts only where the rows before end in that.

    Parameters
    ----------
    trail
        The trail's file.
    size
        Number of its rows.
    """

    def __init__(self, trail: Path, size: int) -> None:
        self._stack = ExitStack()
        self._running: list[tuple[int, subprocess.Popen[bytes], BinaryIO]] = []
        self._tiles: dict[int, tuple[bytes, bytes]] = {}
        self._before: dict[int, bytes] = {}
        tiles = size // TILE
        processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES) if sys.executable else 1
        if tiles < _LEAST_TILES:
            processes = 1
        others = max(0, tiles - _WHILE_STARTING)
        bounds = [tiles - others * part // processes for part in range(processes - 1, -1, -1)]
        for first, end in pairwise(bounds):  # what is before the first of them is for this process
            self._start(trail, first, end - first)

    def from_here(self, end: Head) -> Generator[tuple[bytes, bytes]]:
        """Give the tiles behind `end` as `good_tiles` does, as far as a helper has checked them."""
        tile = end.size // TILE
        self._collect(tile)
        if self._before.get(tile) != end.chain:
            return
        while (found := self._tiles.get(tile)) is not None:
            yield found
            tile += 1

    def next_start(self, tile: int) -> int | None:
        """Return the first tile behind this one that a helper was asked for."""
        return min((first for first, _, _ in self._running if first > tile), default=None)

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process, _ in self._running:
            process.kill()
            process.wait()
        self._stack.close()

    def _start(self, trail: Path, first: int, count: int) -> None:
        answer = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
        command = [sys.executable, "-P", "-m", __name__, str(trail), str(first), str(count)]
        try:
            process = subprocess.Popen(  # noqa: S603  (our own interpreter and module, no shell)
                command, stdin=subprocess.DEVNULL, stdout=answer, stderr=subprocess.DEVNULL
            )
        except OSError:  # no memory, no right to start one: the rows are checked here
            return
        self._running.append((first, process, answer))

    def _collect(self, tile: int) -> None:
        """Take up the answer of a helper that began at this tile or before it."""
        found = next((each for each in self._running if each[0] <= tile), None)
        if found is None:
            return
        self._running.remove(found)
        first, process, answer = found
        process.wait()
        answer.seek(0)
        self._before[first] = answer.read(HASH_BYTES)
        hashes = iter(lambda: answer.read(HASH_BYTES), b"")
        for place, (node, chain) in enumerate(zip(hashes, hashes, strict=False), first):
            self._tiles[place] = node, chain
            self._before[place + 1] = chain


def _answer(trail: Path, first: int, count: int) -> None:
    """Write the stored chain hash before a tile, then root and last chain hash of it and those behind."""
    size = first * TILE
    with reading(trail) as connection:
        row = connection.execute("SELECT chain FROM audit_event WHERE seq = ?", (size,)).fetchone()
        chain = START if row is None else row[0]
        if not isinstance(chain, bytes):
            return
        sys.stdout.buffer.write(chain)
        for node, last in islice(good_tiles(connection, Head(size, chain)), count):
            sys.stdout.buffer.write(node + last)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _answer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
