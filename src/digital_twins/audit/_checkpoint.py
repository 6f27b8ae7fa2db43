"""Signed statements of how many rows there are and of the tree's root (https://c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins.audit._merkle import root
from digital_twins.audit._tree import StoredTree
from digital_twins.crypto import sign_note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import apsw

    from digital_twins.crypto import SigningKey

_TAIL_BYTES = 8192
_END = re.compile("\n— [^\n]+\n\n".encode())


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint states, and the note that says so; its signature has not been checked."""

    origin: str
    size: int
    root: bytes
    note: str


def parse_checkpoint(note: str) -> Checkpoint | None:
    """Return the content of a checkpoint; None when it has another form."""
    lines = note.split("\n")
    try:
        origin, size, text = lines[:3]
        value = base64.b64decode(text, validate=True)
        if lines[3:4] != [""] or str(int(size)) != size or int(size) < 0 or len(value) != 32 or not origin:
            return None
    except (ValueError, binascii.Error):
        return None
    return Checkpoint(origin, int(size), value, note)


class CheckpointFile:
    """Checkpoints one after the other, an empty line after each; nothing in it is ever rewritten.

    What a power cut left unfinished at the end counts as not written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[str]:
        """Return every finished note, oldest first; no file is no note."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return _notes(content)

    def newest(self) -> Checkpoint | None:
        """Return the last checkpoint that has the right form."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return _newest(file.read())
        except FileNotFoundError:
            return None

    def append(self, checkpoint: Checkpoint) -> None:
        """Write and sync a checkpoint, unless one of as many rows is there."""
        with self.locked() as descriptor:
            known = _newest(_tail(descriptor))
            if known is None or known.size < checkpoint.size:
                _write(descriptor, checkpoint.note)

    def set_aside(self) -> None:
        """Keep checkpoints that contradict the trail as evidence; `verify_trail` reports them then."""
        stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S%f")
        evidence = self.path.with_name(f"{self.path.name}.suspect-{stamp}")
        try:
            self.path.rename(evidence)
        except FileNotFoundError:
            evidence.write_text("the checkpoints were missing although some had been signed\n", "ascii")

    def suspects(self) -> list[Path]:
        """Return what was set aside so far."""
        return sorted(self.path.parent.glob(f"{self.path.name}.suspect-*"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the file against other processes that sign."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def sign_rows(connection: apsw.Connection, file: CheckpointFile, key: SigningKey) -> Checkpoint:
    """Return the checkpoint of all rows, signed and durable; one that is there already is not signed again.

    `connection` holds a snapshot. What was signed before must be the start of what is signed now.

    Raises
    ------
    StorageError
        The rows contradict the last checkpoint, or the tree is incomplete: nothing was signed.
    """
    tree = StoredTree(connection)
    with file.locked() as descriptor:
        known = _newest(_tail(descriptor))
        size = tree.size()
        if known is not None and known.size >= size and known.origin == key.name:
            if known.size == size and known.root != root(tree, size):
                raise contradiction(known.size)
            return known
        if known is not None and (known.size > size or root(tree, known.size) != known.root):
            raise contradiction(known.size)
        value = root(tree, size)
        text = f"{key.name}\n{size}\n{base64.b64encode(value).decode()}\n"
        made = Checkpoint(key.name, size, value, sign_note(text, key))
        _write(descriptor, made.note)
    return made


def contradiction(size: int) -> StorageError:
    """Return the error for rows that are not those of a signed checkpoint."""
    return StorageError(
        "The audit trail was not signed.",
        f"Its rows are not those of the checkpoint of {size} rows that was signed before.",
        "Run twin audit verify, keep a copy as evidence, and restore the trail from the backup.",
    )


def _notes(content: bytes) -> list[str]:
    text = content.decode(errors="replace")
    if text.endswith("\n") and not text.endswith("\n\n"):
        text += "\n"  # one note that was saved alone
    parts = text.split("\n\n")
    return [f"{body}\n\n{lines}\n" for body, lines in zip(parts[:-1:2], parts[1:-1:2], strict=False)]


def _newest(tail: bytes) -> Checkpoint | None:
    """Return the last checkpoint of the end of a file, which may begin inside a note."""
    parts = tail.decode(errors="replace").split("\n\n")
    for place in range(len(parts) - 2, 0, -1):
        if parts[place].startswith("— "):
            found = parse_checkpoint(f"{parts[place - 1]}\n\n{parts[place]}\n")
            if found is not None:
                return found
    return None


def _tail(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))


def _write(descriptor: int, note: str) -> None:
    """Write after the last finished note; what a power cut left behind it goes."""
    tail = _tail(descriptor)
    ends = [match.end() for match in _END.finditer(tail)]
    start = os.fstat(descriptor).st_size - len(tail) + (ends[-1] if ends else 0)
    os.ftruncate(descriptor, start)
    os.pwrite(descriptor, note.encode() + b"\n", start)
    os.fsync(descriptor)
