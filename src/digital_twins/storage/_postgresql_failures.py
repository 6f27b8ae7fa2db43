"""What PostgreSQL reports, turned into errors that a person can act on."""

from __future__ import annotations

import re

from digital_twins._errors import ConflictError, InputError, StorageError

_KEY = re.compile(r"Key \(([^)]*)\)=")
_BY_STATE = {
    "53100": ("the server's volume is full", "Free space on the server; nothing was half-written."),
    "53300": ("the server has no free connection", "Raise max_connections, or run fewer workers."),
    "25006": ("the server is read-only", "Connect to the primary server, not to a standby."),
    "55P03": (
        "another process has held the write lock for too long",
        "Look for it in pg_stat_activity and end it, or try again later.",
    ),
    "42501": ("permission is denied", "Grant the node's user CREATE on the database."),
    "28P01": (
        "the password is wrong or missing",
        "Name its file with TWIN_DATABASE_PASSWORD_FILE, or in ~/.pgpass.",
    ),
    "42P01": ("its tables are not there", "Name the database that the node writes to."),
    "3D000": ("the server has no database of that name", "Make it with createdb."),
}


def from_postgresql(error: BaseException, what: str) -> BaseException:
    """Return the error to raise for one of PostgreSQL's; anything else comes back as it is.

    A broken constraint becomes a ConflictError that names table and columns, never values.
    """
    import psycopg

    unchanged: BaseException = error  # where psycopg is not installed, mypy knows no type behind these checks
    if not isinstance(error, psycopg.Error):
        return unchanged
    diagnosis = error.diag
    if isinstance(error, psycopg.errors.RaiseException):
        return ConflictError(
            "The write was refused and nothing of it was kept.",
            f"It contradicts what is stored: {diagnosis.message_primary}.",
            "Read the stored state again and send a write that agrees with it.",
        )
    if isinstance(error, psycopg.IntegrityError):
        key = _KEY.match(diagnosis.message_detail or "")  # of "Key (a, b)=(values) ..." the names only
        columns = key[1] if key else diagnosis.column_name or diagnosis.constraint_name
        place = ".".join(filter(None, (diagnosis.table_name, columns)))
        return ConflictError(
            "The write was refused and nothing of it was kept.",
            f"It contradicts what is stored: {place or type(error).__name__}.",
            "Read the stored state again and send a write that agrees with it.",
        )
    if isinstance(error, psycopg.DataError):
        return InputError(
            what,
            f"A value does not fit its column ({error.sqlstate or 'a NUL character in a text'}).",
            "Send texts without NUL characters, and numbers of at most 64 bits.",
        )
    known = _BY_STATE.get(error.sqlstate or "")
    if known is not None:
        return StorageError(what, f"{known[0][0].upper()}{known[0][1:]}.", known[1])
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        kind = error.sqlstate or type(error).__name__
        return StorageError(
            what,
            f"The PostgreSQL server cannot be reached or broke off ({kind}).",
            "Start the server, or mend the setting 'database'; then look whether the last write was kept.",
        )
    return unchanged
