"""Which part of a ward a service is, and where it writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError
from digital_twins.monitoring.alerts import MIGRATIONS
from digital_twins.monitoring.storage import store_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import apsw

    from digital_twins.audit import Auditor
    from digital_twins.storage import Database


@dataclass(frozen=True, slots=True)
class WardPart:
    """One part of a ward; by default the whole ward on SQLite.

    Attributes
    ----------
    number, count
        Which part of how many; alert numbers leave `number` when divided by `count`.
    server
        ``postgresql://`` URL of the database; empty: SQLite in the monitor's folder.
    database
        Opened by `open_monitor_database` and shared with other parts; None: the service opens its own.
    auditor
        Makes one audit event of each step of an alert.
    outgoing
        Steps of alerts that go to each channel of a `Courier`, by its name.
    chart_s
        Shown vital signs go to the channels that want them, each so many seconds; 0: never.
    epoch
        Of the lease under which a worker holds the part: nothing is written under an older one. 0: no lease.
    risk
        Model file of `save_death_risk` with one on vital signs; None: nobody asks for the risk.
    key
        Of 32 bytes, under which database and history are encrypted; None: they are in clear.
    """

    number: int = 0
    count: int = 1
    server: str = ""
    database: Database | None = None
    auditor: Auditor | None = None
    outgoing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    chart_s: float = 0.0
    epoch: int = 0
    risk: Path | None = None
    key: bytes | None = field(default=None, repr=False)


def open_monitor_database(
    folder: Path, *, server: str = "", parts: int | None = 1, key: bytes | None = None
) -> Database:
    """Open the database of a ward: ``monitor.sqlite`` of a folder, or the schema ``monitor`` of a server.

    Parameters
    ----------
    folder
        Of the monitor; made when missing.
    server
        ``postgresql://`` URL without a password; empty: SQLite.
    parts
        Into how many parts the ward is divided; None: as it is.
    key
        Of the monitor: encrypts the SQLite file with its log; on a server, the columns that tell of patients,
        also of a schema that was in clear.

    Raises
    ------
    ConflictError
        The ward was divided into another number of parts before.
    StorageError
        The database cannot be opened; it is encrypted and no key, or another one, is given; its file is in
        clear and a key is given.
    """
    from digital_twins.audit import OUTBOX_MIGRATIONS
    from digital_twins.storage import Database, DerivedKeys

    folder.mkdir(parents=True, exist_ok=True)
    migrations = (*MIGRATIONS, *OUTBOX_MIGRATIONS)
    own = store_key(key, "monitor.sqlite")
    rows = DerivedKeys(own) if server and own is not None else None
    path = folder / "monitor.sqlite"
    database = Database(path, migrations=migrations, server=server, key=own, keys=rows)

    def settle(cursor: apsw.Cursor) -> int | None:
        if parts is None:
            return None
        cursor.execute(
            "INSERT INTO monitor_shape(one, parts) VALUES (1, ?) ON CONFLICT(one) DO NOTHING", (parts,)
        )
        row = cursor.execute("SELECT parts FROM monitor_shape WHERE one = 1").fetchone()
        return parts if row is None else int(str(row[0]))

    try:
        found = database.write(settle)
        if found != parts:
            raise ConflictError(
                "The monitor's database cannot be used like that.",
                f"Its ward is divided into {found} part(s), not {parts}.",
                "Start with workers where it was started with workers, without where it was without.",
            )
    except BaseException:
        database.close()
        raise
    return database
