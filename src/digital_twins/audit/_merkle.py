"""RFC 6962 Merkle tree: proofs and roots from stored subtrees, and the checks of proofs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

TILE_LEVELS = 8
TILE = 1 << TILE_LEVELS
"""Leaves, or stored nodes, below one stored node: a proof reads at most two runs of 256 hashes a level."""
HASH_BYTES = 32
_NODE = hashlib.sha256(b"\1")
EMPTY_ROOT = hashlib.sha256().digest()


class Stored(Protocol):
    """Where the hashes of complete subtrees lie: level 0 are the leaves, 1 stands above 256 of them, ..."""

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return stored hashes of one level, from position `first` on."""


def leaf_hash(body: bytes) -> bytes:
    """Return the leaf hash of an entry: SHA-256(0x00, entry), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\0" + body).digest()


def parent(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two others: SHA-256(0x01, left, right)."""
    return hashlib.sha256(b"\1" + left + right).digest()


def complete(hashes: Sequence[bytes]) -> bytes:
    """Return the root above 2**k hashes."""
    row = hashes
    begun = _NODE.copy  # a copy of a hash that was begun costs less than a new one
    while len(row) > 1:
        above = []
        pairs = iter(row)
        for left, right in zip(pairs, pairs, strict=True):
            node = begun()
            node.update(left + right)
            above.append(node.digest())
        row = above
    return row[0]


def root(stored: Stored, size: int) -> bytes:
    """Return the root of the first `size` leaves."""
    return EMPTY_ROOT if size == 0 else _span(stored, 0, size)


def inclusion(stored: Stored, index: int, size: int) -> list[bytes]:
    """Return the audit path of leaf `index` (from 0) in the tree of `size` leaves: RFC 6962, 2.1.1."""
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_span(stored, middle, end))
            end = middle
        else:
            proof.append(_span(stored, start, middle))
            start = middle
    return proof[::-1]


def consistency(stored: Stored, old: int, size: int) -> list[bytes]:
    """Return the proof that the first `old` leaves (1 or more) start the tree of `size`: RFC 6962, 2.1.2."""
    proof = []
    start, end = 0, size
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_span(stored, middle, end))
            end = middle
        else:
            proof.append(_span(stored, start, middle))
            start = middle
    if start > 0:
        proof.append(_span(stored, start, end))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes) -> bool:
    """Tell whether an audit path leads from a leaf to a root (RFC 9162 section 2.1.3.2).

    Parameters
    ----------
    leaf
        Leaf hash: SHA-256(0x00, canonical bytes of the row).
    index
        Place of the leaf, from 0.
    size
        Number of leaves under the root.
    proof
        Hashes from the leaf's sibling upward.
    root
        Root hash of a checkpoint that you trust.
    """
    if not 0 <= index < size:
        return False
    place, last, value = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            value = parent(each, value)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            value = parent(value, each)
        place, last = place >> 1, last >> 1
    return last == 0 and value == root


def verify_consistency(old: int, size: int, *, proof: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Tell whether a proof shows that a smaller tree starts the larger one (RFC 9162 section 2.1.4.2).

    Parameters
    ----------
    old, size
        Numbers of leaves.
    proof
        Hashes as `prove_consistency` gives them.
    old_root, root
        Root hashes of two checkpoints.
    """
    if not 0 < old <= size:
        return old == 0 and old_root == EMPTY_ROOT and not proof
    if old == size:
        return not proof and old_root == root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = parent(each, before), parent(each, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = parent(after, each)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == root


class Growing:
    """A tree in memory that takes leaves one by one and keeps only its right edge, as `Stored`."""

    def __init__(self) -> None:
        self.size = 0
        self.rows: list[list[bytes]] = [[]]
        self._starts = [0]

    def append(self, leaf: bytes) -> Sequence[tuple[int, int, bytes]]:
        """Add a leaf and return every stored node that it completes as (level, position, hash)."""
        return self.extend([leaf])

    def extend(self, leaves: Sequence[bytes]) -> Sequence[tuple[int, int, bytes]]:
        """Add leaves, at most to the next multiple of 256, and return the stored nodes as `append` does."""
        self.size += len(leaves)
        edge = self.rows[0]
        edge.extend(leaves)
        return self._fold() if len(edge) == TILE else ()

    def extend_by_tile(self, node: bytes) -> Sequence[tuple[int, int, bytes]]:
        """Add 256 leaves by the node above them, where the size is a multiple of 256; see `append`."""
        position = self.size // TILE
        self.size += TILE
        self._starts[0] += TILE
        if len(self.rows) == 1:
            self.rows.append([])
            self._starts.append(0)
        self.rows[1].append(node)
        return [(1, position, node), *self._fold(1)]

    def _fold(self, level: int = 0) -> list[tuple[int, int, bytes]]:
        done = []
        while len(self.rows[level]) == TILE:
            node = complete(self.rows[level])
            position = self._starts[level] // TILE
            self._starts[level] += TILE
            self.rows[level] = []
            level += 1
            if level == len(self.rows):
                self.rows.append([])
                self._starts.append(0)
            self.rows[level].append(node)
            done.append((level, position, node))
        return done

    def root(self) -> bytes:
        """Return the root of the leaves so far."""
        return root(self, self.size)

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return hashes of the right edge; see `Stored`."""
        start = first - self._starts[level]
        return self.rows[level][start : start + count]


def _split(width: int) -> int:
    """Return the largest power of two below a width of 2 or more."""
    return 1 << ((width - 1).bit_length() - 1)


def _span(stored: Stored, start: int, end: int) -> bytes:
    """Return the hash over leaves start to end; start is aligned as the tree's split points are."""
    parts = []
    while start < end:
        bits = (end - start).bit_length() - 1
        parts.append(_subtree(stored, bits, start >> bits))
        start += 1 << bits
    value = parts.pop()
    while parts:
        value = parent(parts.pop(), value)
    return value


def _subtree(stored: Stored, bits: int, position: int) -> bytes:
    """Return the hash of the complete subtree over 2**bits leaves."""
    level, above = divmod(bits, TILE_LEVELS)
    return complete(stored.hashes(level, position << above, 1 << above))
