"""One pass over the rows: chain, leaves and tree recomputed."""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from digital_twins.audit._head import START, Head
from digital_twins.audit._merkle import TILE, TILE_LEVELS, Growing
from digital_twins.audit._problem import MOST_PROBLEMS, Problem
from digital_twins.audit._tiles import BEFORE_ALL, ROWS, Helpers, good_tiles
from digital_twins.audit._tree import StoredTree
from digital_twins.storage import stream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    import apsw

_NEVER, _FOR_EVER = -1, 1 << 63


class Walk:
    """Everything that the rows themselves say.

    Parameters
    ----------
    connection
        Of the trail.
    head
        Content of the head file; `at_head` is then the recomputed chain hash at its row.
    sizes
        Numbers of rows whose tree roots are wanted, in `roots`.
    trail
        Where other processes find the rows, for a long trail.
    """

    def __init__(
        self, connection: apsw.Connection, head: Head | None, sizes: set[int], *, trail: Path
    ) -> None:
        self.problems: list[Problem] = []
        self.at_head: bytes | None = None
        self.roots: dict[int, bytes] = {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_tree'").fetchall()
        self.has_tree = bool(tables)
        self._tree = Growing()
        self._stops = sorted(sizes | ({head.size} if head is not None else set()), reverse=True)
        self._head = head
        with Helpers(trail, StoredTree(connection).size()) as helpers:
            self.end = self._rows(connection, helpers)
        self.root = self._tree.root()

    def first_bad_up_to(self, size: int) -> bool:
        """Tell whether a row up to this one is already named as wrong."""
        return any(problem.seq is not None and problem.seq <= size for problem in self.problems)

    def against_stored_tree(self, connection: apsw.Connection) -> Iterator[Problem]:
        """Compare the stored nodes with the recomputed ones, where no row is wrong anyway."""
        if self.problems or not self.has_tree:
            return
        stored = {
            (int(str(level)), int(str(position))): value
            for level, position, value in connection.execute("SELECT level, position, hash FROM audit_tree")
        }
        for place, value in self.nodes.items():
            if stored.get(place) != value:
                last = (place[1] + 1) << (TILE_LEVELS * place[0])
                yield Problem(last, "the stored Merkle tree has another hash above this row, or none")
        now = StoredTree(connection).size()  # rows that came since the walk began have nodes too
        for level, position in stored.keys() - self.nodes.keys():
            if level < 1 or position < 0 or (position + 1) << (TILE_LEVELS * level) > now:
                yield Problem(None, f"the Merkle tree holds a node at level {level} that belongs to no row")

    def _rows(self, connection: apsw.Connection, helpers: Helpers) -> Head:
        """Recompute every row, 256 at a time; where something is wrong or wanted, one by one."""
        end, expected, last = Head(0, START), 1, BEFORE_ALL
        stop = self._stop(0, START)
        while True:
            if expected == end.size + 1 and end.size % TILE == 0:
                end = self._tiles(connection, helpers, end, stop=stop)
                expected, last = end.size + 1, end.size or BEFORE_ALL
            batch = list(islice(stream(connection, ROWS, (last,)), TILE - end.size % TILE))
            if not batch:
                return end
            last = batch[-1][0]
            end, expected, stop = self._one_by_one(batch, end, expected=expected, stop=stop)

    def _tiles(self, connection: apsw.Connection, helpers: Helpers, end: Head, *, stop: int) -> Head:
        """Go on by whole tiles until one is wrong, incomplete, or holds what is wanted."""
        last = stop - 1 if stop != _NEVER else _FOR_EVER
        while True:
            begun = end
            end = self._taken(helpers.from_here(end), end, last)
            if end is begun:
                border = helpers.next_start(end.size // TILE)
                end = self._taken(
                    good_tiles(connection, end), end, last if border is None else min(last, border * TILE)
                )
            if end is begun:
                return end

    def _taken(self, tiles: Generator[tuple[bytes, bytes]], end: Head, last: int) -> Head:
        """Take up tiles that are good, up to this number of rows."""
        with closing(tiles):  # two streams of one connection are not open together
            while end.size + TILE <= last and (found := next(tiles, None)) is not None:
                end = Head(end.size + TILE, found[1])
                for level, position, value in self._tree.extend_by_tile(found[0]):
                    self.nodes[level, position] = value
        return end

    def _one_by_one(
        self, batch: Sequence[tuple[Any, ...]], end: Head, *, expected: int, stop: int
    ) -> tuple[Head, int, int]:
        """Go on from what is stored, so that one changed row is not reported as every row after it."""
        chain, count = end.chain, end.size
        for seq, event_id, body, leaf, stored in batch:
            count += 1
            if seq != expected:
                self._gap(expected, seq)
                expected = seq
            expected += 1
            text = body if isinstance(body, str) else ""
            own = hashlib.sha256(b"\0" + text.encode(errors="surrogatepass")).digest()
            chain = hashlib.sha256(chain + own).digest()
            for level, position, value in self._tree.append(own):
                self.nodes[level, position] = value
            if own != leaf or chain != stored or f'"event_id":"{event_id}"' not in text:
                self._note(seq, "its content or order was changed")
                chain = stored if isinstance(stored, bytes) else chain
            if count == stop:
                stop = self._stop(count, chain)
        return Head(count, chain), expected, stop

    def _stop(self, count: int, chain: bytes) -> int:
        """Keep what is wanted at this number of rows and return the next one."""
        while self._stops and self._stops[-1] <= count:
            size = self._stops.pop()
            if size == count:
                self.roots[size] = self._tree.root()
                if self._head is not None and self._head.size == size:
                    self.at_head = chain
        return self._stops[-1] if self._stops else _NEVER

    def _gap(self, expected: int, seq: int) -> None:
        if seq < expected:
            self._note(seq, f"row {expected} was expected here: this one was added")
        else:
            self._note(expected, f"the rows from {expected} to {seq - 1} are missing")

    def _note(self, seq: int, what: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(seq, what))
