"""Recompute chain and tree and compare them with the head file and the signed checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins.audit._head import HeadFile
from digital_twins.audit._problem import MOST_PROBLEMS, Problem
from digital_twins.audit._reading import reading
from digital_twins.audit._statements import statements
from digital_twins.audit._walk import Walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import apsw

    from digital_twins.audit._head import Head

_GUARDS = frozenset({"audit_event_no_update", "audit_event_no_delete"})
_TREE_GUARDS = frozenset({"audit_tree_no_update", "audit_tree_no_delete"})


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of a verification.

    `events` rows were read; `checkpoint_events` is the size that the head file states (None: no valid
    one); `chain` is the recomputed hash of the last row in hex, to be kept elsewhere as an anchor. Of many
    problems the first 20 are listed. `root` is the recomputed root of the Merkle tree in hex; `signed_events`
    is the size of the largest checkpoint whose signature and root are right, `anchored_events` the same of
    the anchor (None: there is none).
    """

    events: int
    checkpoint_events: int | None
    chain: str
    problems: tuple[Problem, ...]
    root: str
    signed_events: int | None = None
    anchored_events: int | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_trail(
    path: str | os.PathLike[str], *, anchor: str | os.PathLike[str] | None = None, key: str | None = None
) -> VerifyReport:
    """Recompute every hash of a trail, also while a node writes to it, and check every signed checkpoint.

    Found are: a changed, deleted, inserted or exchanged row; rows missing at the end, as long as the head
    file or a checkpoint tells of them; a missing, damaged or contradicting head file or checkpoint, also if
    a node was started since; a wrong signature; a changed Merkle tree; missing guard triggers.

    Not found without an anchor, a copy of the checkpoints that the attacker cannot write: all files put back
    together to an older state; a trail recomputed from some row on together with its head, checkpoints and
    key. With an anchor both are found, down to the rows between two of its checkpoints. Not found with one
    either: events that came after its last checkpoint and were then cut off or rewritten; events appended
    with right hashes by somebody who can write the file.

    Parameters
    ----------
    path
        The trail's file.
    anchor
        File of checkpoints from outside of the trail's folder, as `AuditTrail` writes it, or one saved note.
    key
        Verifier key (``name+keyid+base64``) that must have signed; otherwise that of the ``.vkey`` file.

    Raises
    ------
    NotFoundError
        There is no trail at `path`, or no anchor at `anchor`.
    StorageError
        The file cannot be read as a trail.
    InputError
        `key` is no verifier key.
    """
    file = Path(path)
    head_file = HeadFile(file.with_suffix(".head"))
    problems: list[Problem] = []
    signed = statements(file, None if anchor is None else Path(anchor), key)
    with reading(file) as connection:
        # What states a size is read first: the trail may grow meanwhile, but never lie behind.
        head = head_file.read()
        walk = Walk(connection, head, {each.size for each in signed.checkpoints}, trail=file)
        problems.extend(walk.problems)
        problems.extend(_missing_guards(connection, walk.has_tree))
        problems.extend(walk.against_stored_tree(connection))
    problems.extend(_against_head(head_file, head, walk.end, walk.at_head))
    problems.extend(signed.check(walk))
    return VerifyReport(
        walk.end.size,
        None if head is None else head.size,
        walk.end.chain.hex(),
        tuple(problems[:MOST_PROBLEMS]),
        walk.root.hex(),
        signed.local_size,
        signed.anchor_size,
    )


def _missing_guards(connection: apsw.Connection, has_tree: bool) -> Iterator[Problem]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    wanted = _GUARDS | _TREE_GUARDS if has_tree else _GUARDS
    for name in sorted(wanted - {row[0] for row in rows}):
        yield Problem(None, f"the trigger {name}, which keeps rows from being changed, is missing")


def _against_head(
    head_file: HeadFile, head: Head | None, end: Head, at_head: bytes | None
) -> Iterator[Problem]:
    for suspect in head_file.suspects():
        yield Problem(None, f"{suspect.name}: an earlier start of the node found a checkpoint that disagreed")
    if head is None:
        if end.size:
            yield Problem(None, "the head file is missing or damaged")
    elif head.size > end.size:
        yield Problem(end.size + 1, f"the head file tells of {head.size} events, the trail holds {end.size}")
    elif at_head != head.chain:
        yield Problem(head.size, "the head file states another chain hash for this row")
