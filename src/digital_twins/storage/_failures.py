"""What the operating system and SQLite report, turned into errors that a person can act on."""

from __future__ import annotations

import errno

import apsw

from digital_twins._errors import ConflictError, StorageError

_FREE_SPACE = "Free space on that volume or point data_dir at a larger one; nothing was half-written."
_READ_ONLY = "Give the user that runs the node write permission, or remount the volume read-write."
_CHECK_DISK = "Check the volume (system log, SMART, file system check) before writing more to it."

_BY_ERRNO = {
    errno.ENOSPC: ("the volume is full", _FREE_SPACE),
    errno.EDQUOT: ("the quota of this user is used up", _FREE_SPACE),
    errno.EFBIG: ("the file would exceed the size limit of the volume or process", _FREE_SPACE),
    errno.EROFS: ("the file system is read-only", _READ_ONLY),
    errno.EACCES: ("permission is denied", _READ_ONLY),
    errno.EPERM: ("the operation is not permitted", _READ_ONLY),
    errno.EIO: ("the device reported an input/output error", _CHECK_DISK),
    errno.EMFILE: ("this process has too many open files", "Raise the limit of open files (ulimit -n)."),
    errno.ENFILE: ("the machine has too many open files", "Raise the kernel's limit of open files."),
}

_BY_SQLITE: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (apsw.FullError, "the volume is full", _FREE_SPACE),
    (apsw.ReadOnlyError, "the database or its folder is read-only", _READ_ONLY),
    (apsw.CantOpenError, "the database file or its folder cannot be opened", _READ_ONLY),
    (apsw.PermissionsError, "permission is denied", _READ_ONLY),
    (apsw.IOError, "the device reported an input/output error", _CHECK_DISK),
    (apsw.CorruptError, "the database file is damaged", "Stop the node and restore the last backup."),
    (
        apsw.NotADBError,
        "the file is not a SQLite database",
        "Move that file away or choose another data_dir.",
    ),
    (
        apsw.BusyError,
        "another process has held the write lock for too long",
        "Find the process that holds the database (lsof) and end it, or try again later.",
    ),
    (apsw.NoMemError, "memory ran out", "Free memory on this machine or lower the number of workers."),
)


def from_os_error(error: OSError, what: str) -> StorageError:
    """Return the StorageError for an OSError, e.g. for ENOSPC, EDQUOT, EROFS or EIO."""
    reason = (error.strerror or type(error).__name__).lower()
    why, fix = _BY_ERRNO.get(error.errno or 0, (f"the operating system says '{reason}'", _CHECK_DISK))
    return StorageError(what, f"{why[0].upper()}{why[1:]}.", fix)


def from_sqlite(error: BaseException, what: str) -> BaseException:
    """Return the error to raise for one of SQLite's; anything else comes back as it is.

    A broken constraint becomes a ConflictError; SQLite names the table and columns in it, never values.
    """
    if isinstance(error, apsw.ConstraintError):
        return ConflictError(
            "The write was refused and nothing of it was kept.",
            f"It contradicts what is stored: {error}.",
            "Read the stored state again and send a write that agrees with it.",
        )
    for kind, why, fix in _BY_SQLITE:
        if isinstance(error, kind):
            return StorageError(what, f"{why[0].upper()}{why[1:]}.", fix)
    return error
