"""Recompute the whole chain and compare it with the checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins.audit._head import START, Head, HeadFile
from digital_twins.audit._reading import reading

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import apsw

_MOST_PROBLEMS = 20
_GUARDS = frozenset({"audit_event_no_update", "audit_event_no_delete"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: the row it is about (None: the trail as a whole) and what is wrong with it."""

    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of a verification.

    `events` rows were read; `checkpoint_events` is the size that the head file states (None: no valid
    one); `chain` is the recomputed hash of the last row in hex, to be kept elsewhere as an anchor. Of many
    problems the first 20 are listed.
    """

    events: int
    checkpoint_events: int | None
    chain: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def verify_trail(path: str | os.PathLike[str]) -> VerifyReport:
    """Recompute every hash of a trail, also while a node writes to it.

    Found are: a changed, deleted, inserted or exchanged row; rows missing at the end, as long as the head
    file tells of them; a missing, damaged or contradicting head file, also if a node was started since;
    missing guard triggers.

    Not found, because there is no anchor outside of this folder: both files put back together to an older
    state; a trail recomputed from some row on together with its head file; events appended with right
    hashes by somebody who can write the file; events cut off that the head file does not tell of yet (it
    follows within a twentieth of a second). Keep `VerifyReport.chain` elsewhere to find the first two.

    Raises
    ------
    NotFoundError
        There is no trail at `path`.
    StorageError
        The file cannot be read as a trail.
    """
    file = Path(path)
    head_file = HeadFile(file.with_suffix(".head"))
    problems: list[Problem] = []
    with reading(file) as connection:
        head = head_file.read()  # first: the trail may grow meanwhile, but never lie behind
        end, at_head = _walk(connection, head, problems)
        problems.extend(_missing_guards(connection))
    problems.extend(_against_checkpoint(head_file, head, end, at_head))
    return VerifyReport(
        end.size, None if head is None else head.size, end.chain.hex(), tuple(problems[:_MOST_PROBLEMS])
    )


def _walk(
    connection: apsw.Connection, head: Head | None, problems: list[Problem]
) -> tuple[Head, bytes | None]:
    """Return the recomputed end and the recomputed chain hash at the checkpoint's row."""
    chain, count = START, 0
    at_head = START if head is not None and head.size == 0 else None
    rows = connection.execute("SELECT seq, event_id, body, leaf, chain FROM audit_event ORDER BY seq")
    for seq, event_id, body, leaf, stored in rows:
        count += 1
        if seq != count and len(problems) < _MOST_PROBLEMS:
            problems.append(
                Problem(int(str(seq)), f"row {count} was expected here: rows are missing or added")
            )
        text = body if isinstance(body, str) else ""
        own = hashlib.sha256(b"\0" + text.encode(errors="surrogatepass")).digest()
        chain = hashlib.sha256(chain + own).digest()
        if own != leaf or chain != stored or f'"event_id":"{event_id}"' not in text:
            if len(problems) < _MOST_PROBLEMS:
                problems.append(Problem(int(str(seq)), "its content or order was changed"))
            # Go on from what is stored, so that one changed row is not reported as all rows after it.
            chain = stored if isinstance(stored, bytes) else chain
        if head is not None and count == head.size:
            at_head = chain
    return Head(count, chain), at_head


def _missing_guards(connection: apsw.Connection) -> Iterator[Problem]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name in sorted(_GUARDS - {row[0] for row in rows}):
        yield Problem(None, f"the trigger {name}, which keeps rows from being changed, is missing")


def _against_checkpoint(
    head_file: HeadFile, head: Head | None, end: Head, at_head: bytes | None
) -> Iterator[Problem]:
    for suspect in head_file.suspects():
        yield Problem(None, f"{suspect.name}: an earlier start of the node found a checkpoint that disagreed")
    if head is None:
        if end.size:
            yield Problem(None, "the head file is missing or damaged")
    elif head.size > end.size:
        yield Problem(None, f"the head file tells of {head.size} events, the trail holds {end.size}")
    elif at_head != head.chain:
        yield Problem(head.size, "the head file states another chain hash for this row")
