"""Who works on which part of a ward: leases in the database, and how a dead worker's parts are taken over.

A worker counts its beat up; it is dead once another has seen the same count for `lease_s` of its own clock,
so no two clocks are ever compared. Each change of hands counts the part's epoch up. Whatever a worker writes
carries the epoch that it holds, in the same transaction: one that slept through its lease can write nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from digital_twins.storage import Database

LEASE_S = 4.0
"""A worker whose beat stands still for so long has lost its parts."""
BEAT_S = 0.5


class PartLostError(ConflictError):
    """Another worker has taken the part over; nothing was written."""


def check_epoch(cursor: apsw.Cursor, part: int, epoch: int) -> None:
    """Raise PartLostError inside a transaction unless the part is still held under that epoch."""
    row = cursor.execute("SELECT epoch FROM monitor_lease WHERE part = ?", (part,)).fetchone()
    if row is None or int(str(row[0])) != epoch:
        raise PartLostError(
            "The part of the ward was not written.", "Another worker has taken it over.", "Claim it anew."
        )


@dataclass(frozen=True, slots=True)
class Holding:
    """What a worker has after a round.

    Attributes
    ----------
    epochs
        Epoch of each part that it holds.
    surplus
        Parts beyond its share, to be closed and given back by `Leases.release`.
    """

    epochs: dict[int, int]
    surplus: tuple[int, ...]


class Leases:
    """The claims of one worker.

    Parameters
    ----------
    database
        Of the ward.
    parts
        Into how many parts it is divided.
    owner
        Name of the worker, unique over all machines and starts.
    lease_s
        How long (s) a beat may stand still.
    expected
        Workers that start together: for the first `lease_s` nobody takes more than an equal share of them.
    clock
        Rising seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        parts: int,
        owner: str,
        lease_s: float = LEASE_S,
        expected: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._parts, self.owner = database, parts, owner
        self._lease_s, self._expected, self._clock = lease_s, expected, clock
        self._began_s = clock()
        self._beats: dict[str, tuple[int, float]] = {}

    def round(self) -> Holding:
        """Beat, take what is free or whose owner is dead, up to the own share; raises StorageError."""
        return self._database.write(self._round)

    def release(self, part: int) -> None:
        """Give a part back that this worker has closed; another may take it at once."""
        self._database.write(lambda cursor: self._free(cursor, "part = ? AND owner = ?", (part, self.owner)))

    def leave(self) -> None:
        """Give everything back and be no worker any more."""

        def work(cursor: apsw.Cursor) -> None:
            self._free(cursor, "owner = ?", (self.owner,))
            cursor.execute("DELETE FROM monitor_worker WHERE owner = ?", (self.owner,))

        self._database.write(work)

    @staticmethod
    def _free(cursor: apsw.Cursor, which: str, values: tuple[int | str, ...]) -> None:
        cursor.execute(
            f"UPDATE monitor_lease SET owner = '', epoch = epoch + 1 WHERE {which}",  # noqa: S608  (own text)  # nosec B608
            values,
        )

    def _round(self, cursor: apsw.Cursor) -> Holding:
        cursor.execute(
            "INSERT INTO monitor_worker(owner, beat) VALUES (?, 1)"
            " ON CONFLICT(owner) DO UPDATE SET beat = monitor_worker.beat + 1",
            (self.owner,),
        )
        beats = cursor.execute("SELECT owner, beat FROM monitor_worker").fetchall()
        live = self._living({str(owner): int(str(beat)) for owner, beat in beats})
        leases = self._leases(cursor)
        held = [part for part, (owner, _) in leases.items() if owner == self.owner]
        free = [part for part, (owner, _) in leases.items() if owner not in live]
        share = self._share(live)
        for part in free[: max(0, share - len(held))]:
            cursor.execute(
                "UPDATE monitor_lease SET owner = ?, epoch = epoch + 1, seen = 0 WHERE part = ?",
                (self.owner, part),
            )
            leases[part] = (self.owner, leases[part][1] + 1)
            held.append(part)
        held.sort()
        return Holding({part: leases[part][1] for part in held}, tuple(held[share:]))

    def _leases(self, cursor: apsw.Cursor) -> dict[int, tuple[str, int]]:
        query = "SELECT part, owner, epoch FROM monitor_lease ORDER BY part"
        rows = cursor.execute(query).fetchall()
        if len(rows) < self._parts:
            cursor.executemany(
                "INSERT INTO monitor_lease(part, owner, epoch, seen) VALUES (?, '', 0, 0)"
                " ON CONFLICT(part) DO NOTHING",
                [(part,) for part in range(self._parts)],
            )
            rows = cursor.execute(query).fetchall()
        return {int(str(part)): (str(owner), int(str(epoch))) for part, owner, epoch in rows}

    def _living(self, beats: dict[str, int]) -> list[str]:
        """Return who lives, in the order of names; what each counted, and since when, is remembered."""
        now_s = self._clock()
        known = self._beats
        self._beats = {
            owner: known[owner] if owner in known and known[owner][0] == beat else (beat, now_s)
            for owner, beat in beats.items()
        }
        return sorted(
            owner
            for owner, (_, since_s) in self._beats.items()
            if owner == self.owner or now_s - since_s < self._lease_s
        )

    def _share(self, live: list[str]) -> int:
        """Return how many parts are this worker's: all get as many, the first of them one more."""
        count, place = len(live), live.index(self.owner)
        if self._clock() - self._began_s < self._lease_s and self._expected > count:
            return -(-self._parts // self._expected)
        return self._parts // count + (place < self._parts % count)
