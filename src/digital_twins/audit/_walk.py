"""One pass over the rows: chain, leaves and tree recomputed."""

from __future__ import annotations

import hashlib
from itertools import islice
from operator import contains
from typing import TYPE_CHECKING, Any

from digital_twins.audit._head import START, Head
from digital_twins.audit._merkle import TILE, TILE_LEVELS, Growing
from digital_twins.audit._problem import MOST_PROBLEMS, Problem
from digital_twins.audit._tree import StoredTree
from digital_twins.storage import stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw

_NEVER = -1


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
    """

    def __init__(self, connection: apsw.Connection, head: Head | None, sizes: set[int]) -> None:
        self.problems: list[Problem] = []
        self.at_head: bytes | None = None
        self.roots: dict[int, bytes] = {}
        self.nodes: dict[tuple[int, int], bytes] = {}
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit_tree'").fetchall()
        self.has_tree = bool(tables)
        self._tree = Growing()
        self._stops = sorted(sizes | ({head.size} if head is not None else set()), reverse=True)
        self._head = head
        self.end = self._rows(connection)
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

    def _rows(self, connection: apsw.Connection) -> Head:
        """Recompute every row, 256 at a time; where something is wrong or wanted, one by one."""
        end, expected = Head(0, START), 1
        stop = self._stop(0, START)
        rows = stream(connection, "SELECT seq, event_id, body, leaf, chain FROM audit_event ORDER BY seq")
        while batch := list(islice(rows, TILE)):
            reached = end.size + len(batch)
            wanted = end.size < stop <= reached
            good = None if wanted or expected != end.size + 1 else _unchanged(batch, end)
            if good is None:
                end, expected, stop = self._one_by_one(batch, end, expected=expected, stop=stop)
                continue
            leaves, end = good
            expected += len(batch)
            for level, position, value in self._tree.extend(leaves):
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


def _unchanged(batch: Sequence[tuple[Any, ...]], end: Head) -> tuple[list[bytes], Head] | None:
    """Return the leaves and the new end if every row is as it was written; None if any is not."""
    sha256 = hashlib.sha256
    seqs, event_ids, bodies, stored, chains = zip(*batch, strict=True)
    before = (end.chain, *chains[:-1])
    try:
        leaves = [sha256(b"\0" + body.encode()).digest() for body in bodies]
        # Each link is recomputed from the stored one before it: together they are the chain.
        links = [sha256(link + leaf).digest() for link, leaf in zip(before, leaves, strict=True)]
    except (AttributeError, TypeError, UnicodeEncodeError):
        return None
    if (
        tuple(leaves) != stored
        or tuple(links) != chains
        or seqs != tuple(range(end.size + 1, end.size + 1 + len(batch)))
        or not all(map(contains, bodies, [f'"event_id":"{event_id}"' for event_id in event_ids]))
    ):
        return None
    return leaves, Head(end.size + len(batch), chains[-1])
