"""The signed checkpoints of a trail and of its anchor, and whether the rows are those that were signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import InputError, NotFoundError
from digital_twins.audit._checkpoint import Checkpoint, CheckpointFile, parse_checkpoint
from digital_twins.audit._problem import Problem
from digital_twins.crypto import VerifierKey, open_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from digital_twins.audit._walk import Walk


class Statements:
    """Checkpoints read before the rows; `check` compares them afterwards.

    Parameters
    ----------
    local
        Notes of the trail's own checkpoint file.
    anchor
        Notes from outside; None when no anchor is given.
    key
        Who must have signed; None when nobody knows.
    suspects
        Names of checkpoint files that an earlier start set aside.
    """

    def __init__(
        self,
        local: Sequence[str],
        anchor: Sequence[str] | None,
        *,
        key: VerifierKey | None,
        suspects: Sequence[str],
    ) -> None:
        self.local_size: int | None = None
        self.anchor_size: int | None = None
        self._key = key
        self._suspects = suspects
        self._local = [parse_checkpoint(note) for note in local]
        self._anchor = None if anchor is None else [parse_checkpoint(note) for note in anchor]

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Every statement that has the form of a checkpoint."""
        return [each for each in (*self._local, *(self._anchor or ())) if each is not None]

    def check(self, walk: Walk) -> Iterator[Problem]:
        """Give what is wrong, and set the sizes up to which everything was signed."""
        for name in self._suspects:
            yield Problem(None, f"{name}: an earlier start of the node found checkpoints that disagreed")
        if not self._local and (self._key is not None or (walk.has_tree and walk.end.size)):
            yield Problem(None, "the signed checkpoints are missing")
        self.local_size, found = self._compare(self._local, walk, "the checkpoint file")
        yield from found
        if self._anchor is not None:
            if not self._anchor:
                yield Problem(None, "the anchor holds no checkpoint")
            self.anchor_size, found = self._compare(self._anchor, walk, "the anchor")
            yield from found

    def _compare(
        self, checkpoints: Sequence[Checkpoint | None], walk: Walk, where: str
    ) -> tuple[int | None, list[Problem]]:
        good: int | None = None
        found: list[Problem] = []
        for each in checkpoints:
            if each is None:
                found.append(Problem(None, f"{where} holds something that is no checkpoint"))
            elif not self._signed(each):
                found.append(Problem(None, f"{where}: the signature below {each.size} rows is not ours"))
            elif each.size > walk.end.size:
                what = f"{where} tells of {each.size} rows, the trail holds {walk.end.size}"
                found.append(Problem(walk.end.size + 1, what))
                break
            elif walk.roots[each.size] != each.root:
                if not walk.first_bad_up_to(each.size):
                    what = f"{where}: the rows from {(good or 0) + 1} to here are not those that were signed"
                    found.append(Problem(each.size, what))
                break
            else:
                good = each.size
        return good, found

    def _signed(self, checkpoint: Checkpoint) -> bool:
        if self._key is None:
            return False
        try:
            open_note(checkpoint.note, [self._key])
        except InputError:
            return False
        return checkpoint.origin == self._key.name


def statements(trail: Path, anchor: Path | None, key: str | None) -> Statements:
    """Read the checkpoints of a trail, of its anchor, and the verifier key.

    Raises
    ------
    NotFoundError
        The anchor does not exist.
    InputError
        The key that was given is none.
    """
    file = CheckpointFile(trail.with_suffix(".checkpoints"))
    if anchor is not None and not anchor.is_file():
        raise NotFoundError(
            f"There is no anchor '{anchor.name}' here.",
            "The file does not exist or cannot be reached.",
            "Name the file of checkpoints that was kept outside of the trail's folder.",
        )
    return Statements(
        file.read(),
        None if anchor is None else CheckpointFile(anchor).read(),
        key=_published(trail.with_suffix(".vkey")) if key is None else VerifierKey.from_text(key),
        suspects=[each.name for each in file.suspects()],
    )


def _published(path: Path) -> VerifierKey | None:
    try:
        return VerifierKey.from_text(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, InputError):
        return None
