"""Proofs that a row is in a signed tree, and that one tree starts another."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError, NotFoundError, StorageError
from digital_twins.audit._checkpoint import Checkpoint, CheckpointFile, sign_rows
from digital_twins.audit._merkle import (
    consistency,
    inclusion,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from digital_twins.audit._reading import reading
from digital_twins.audit._tree import StoredTree
from digital_twins.crypto import load_signing_key

if TYPE_CHECKING:
    import os

    import apsw


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That one row lies in the tree of a signed checkpoint; hashes are in hex.

    `body` is the row's canonical JSON, `leaf` = SHA-256(0x00, body), `index` its place from 0 (`seq` - 1),
    `hashes` the audit path from the leaf's sibling upward (RFC 6962 section 2.1.1), `size` and `root` those
    of the `checkpoint`, a signed note, and `verifier_key` the key that signed it, where it is known.
    """

    seq: int
    body: str
    leaf: str
    index: int
    size: int
    root: str
    hashes: tuple[str, ...]
    checkpoint: str
    verifier_key: str | None

    def to_text(self) -> str:
        """Return the proof as text of the form https://c2sp.org/tlog-proof."""
        lines = [base64.b64encode(bytes.fromhex(each)).decode() for each in self.hashes]
        return "\n".join(["c2sp.org/tlog-proof@v1", f"index {self.index}", *lines, "", self.checkpoint])


def prove_event(path: str | os.PathLike[str], seq: int) -> InclusionProof:
    """Prove that the row `seq` (from 1) is in the tree of the last signed checkpoint.

    When no checkpoint covers the row yet, all rows are signed first with the trail's key.

    Raises
    ------
    NotFoundError
        There is no trail at `path`, or no such row.
    StorageError
        The file cannot be read as a trail, contradicts its checkpoint, or the row does not fit the tree.
    InputError
        The row is not covered by a checkpoint, and the signing key is not here.
    """
    file = Path(path)
    with reading(file) as connection:
        connection.execute("BEGIN")
        row = connection.execute("SELECT body FROM audit_event WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise NotFoundError(
                f"There is no event {seq} in the audit trail.",
                "The trail is shorter, or the number is not that of an event.",
                "Run twin audit tail to see the numbers.",
            )
        body = str(row[0])
        checkpoint = _covering(connection, file, seq)
        tree = StoredTree(connection)
        path_up = inclusion(tree, seq - 1, checkpoint.size)
    leaf = leaf_hash(body.encode())
    if not verify_inclusion(leaf, seq - 1, checkpoint.size, proof=path_up, root=checkpoint.root):
        raise _broken(f"Event {seq} or its neighbours are not those of the signed tree.")
    public = file.with_suffix(".vkey")
    return InclusionProof(
        seq,
        body,
        leaf.hex(),
        seq - 1,
        checkpoint.size,
        checkpoint.root.hex(),
        tuple(each.hex() for each in path_up),
        checkpoint.note,
        public.read_text("utf-8").strip() if public.exists() else None,
    )


def prove_consistency(path: str | os.PathLike[str], old: int, *, size: int) -> tuple[bytes, ...]:
    """Prove that the tree of the first `old` rows starts the tree of the first `size` rows.

    Returns
    -------
    tuple of bytes
        Hashes of RFC 6962 section 2.1.2, for `verify_consistency`.

    Raises
    ------
    NotFoundError
        There is no trail at `path`.
    StorageError
        The file cannot be read as a trail, or its tree is damaged.
    InputError
        Not 1 <= old <= size <= number of rows.
    """
    with reading(Path(path)) as connection:
        connection.execute("BEGIN")
        tree = StoredTree(connection)
        if not 1 <= old <= size <= tree.size():
            raise InputError(
                "There is no such consistency proof.",
                f"The trail has {tree.size()} rows; asked for {old} in {size}.",
                "Give sizes from 1 to the number of rows, the smaller one first.",
            )
        proof = consistency(tree, old, size)
        roots = root(tree, old), root(tree, size)
    if not verify_consistency(old, size, proof=proof, old_root=roots[0], root=roots[1]):
        raise _broken("The stored tree does not agree with itself.")
    return tuple(proof)


def _covering(connection: apsw.Connection, file: Path, seq: int) -> Checkpoint:
    checkpoints = CheckpointFile(file.with_suffix(".checkpoints"))
    known = checkpoints.newest()
    if known is not None and known.size >= seq:
        return known
    key = file.with_suffix(".key")
    if not key.exists():
        raise InputError(
            f"Event {seq} is not covered by a signed checkpoint yet.",
            "The node signs once a minute, and its signing key is not beside this trail.",
            "Prove the event on the node, or in a copy that was taken later.",
        )
    return sign_rows(connection, checkpoints, load_signing_key(key, purpose="audit"))


def _broken(why: str) -> StorageError:
    return StorageError(
        "The proof was not given.",
        why,
        "Run twin audit verify; it names the first row that is wrong.",
    )
