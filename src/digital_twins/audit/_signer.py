"""Signs the trail's tree from time to time, and hands each checkpoint to the anchor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError
from digital_twins._logging import get_logger
from digital_twins.audit._checkpoint import Checkpoint, CheckpointFile, contradiction, sign_rows
from digital_twins.audit._merkle import root
from digital_twins.audit._tree import StoredTree
from digital_twins.crypto import load_signing_key

if TYPE_CHECKING:
    from pathlib import Path

    from digital_twins.storage import Database

_INTERVAL_S = 60.0
"""Least time between two checkpoints: a year of them is verified in a minute."""
_log = get_logger(__name__)


class Signer:
    """The trail's signing key, its checkpoint file and its anchor; a failure is logged and tried again."""

    def __init__(self, trail: Path, database: Database, anchor: Path | None) -> None:
        self.anchor_file = anchor
        self.behind = True
        self._database = database
        self._key = load_signing_key(trail.with_suffix(".key"), purpose="audit")
        self._public = trail.with_suffix(".vkey")
        self._file = CheckpointFile(trail.with_suffix(".checkpoints"))
        self._anchor = None if anchor is None else CheckpointFile(anchor)
        self._next_s = 0.0

    def start(self) -> None:
        """Set checkpoints that contradict the trail aside, and sign."""
        known = self._file.newest()
        agrees = self._agrees(known) if known is not None else not self._public.exists()
        if not agrees:
            self._file.set_aside()
            error = contradiction(0 if known is None else known.size)
            _log.error("audit.checkpoint.contradicts", what=error.what, why=error.why)
        self.sign()

    def _publish(self) -> None:
        """Write the verifier key: only once a checkpoint is there, as its presence promises one."""
        text = self._key.verifier.to_text() + "\n"
        if not self._public.exists() or self._public.read_text("utf-8") != text:
            self._public.write_text(text, "utf-8")

    def _agrees(self, known: Checkpoint) -> bool:
        try:
            with self._database.read() as connection:
                tree = StoredTree(connection)
                return known.size <= tree.size() and root(tree, known.size) == known.root
        except StorageError:
            return False

    def due_in_s(self) -> float | None:
        """Return the time until the next checkpoint; None when everything is signed."""
        return max(0.0, self._next_s - time.monotonic()) if self.behind else None

    def sign(self) -> None:
        """Sign what is not signed yet."""
        self._next_s = time.monotonic() + _INTERVAL_S
        if not self.behind:
            return
        self.behind = False  # first: an event that comes meanwhile sets it again
        try:
            with self._database.read() as connection:
                checkpoint = sign_rows(connection, self._file, self._key)
            self._publish()
            if self._anchor is not None:
                self._anchor.append(checkpoint)
        except (OSError, StorageError) as error:
            self.behind = True
            why = error.why if isinstance(error, StorageError) else type(error).__name__
            _log.error("audit.checkpoint.failed", what="The audit trail was not signed.", why=why)
