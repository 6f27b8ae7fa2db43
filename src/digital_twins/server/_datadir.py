"""The data folder: made, checked for writing, and held by one node at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from digital_twins._errors import ConflictError, StorageError


class DataFolder:
    """Exclusive hold on a data folder, released by `close` or by the kernel when the process ends.

    Parameters
    ----------
    path
        The folder; made when missing.

    Raises
    ------
    StorageError
        The folder cannot be made or written (read-only, no permission, disk full).
    ConflictError
        Another node runs on it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = self._open()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConflictError(
                f"The data folder '{self.path}' is in use.",
                "Another node holds its lock file 'node.lock'.",
                "Stop that node, or start this one with another --data folder.",
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Let another node use the folder."""
        self._file.close()

    def _open(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return (self.path / "node.lock").open("a+", encoding="ascii")
        except OSError as error:
            raise StorageError(
                f"The data folder '{self.path}' cannot be written.",
                f"The system answered: {error.strerror or type(error).__name__}.",
                "Give the node's user write permission, free space on the volume, or choose another --data.",
            ) from error
