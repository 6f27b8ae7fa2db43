"""Which patient lay in which bed, and which device stood at which bed or patient, at each moment.

A message of a bedside device names a device or a bed, never reliably the patient. Whose value it is follows
from the time-stamped associations here. They move with admissions, transfers, swaps and discharges inside the
transaction that stores the message which says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.storage import Migration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

    from digital_twins.storage import Database

BED_MIGRATIONS = (
    Migration(
        "records.0001.beds",
        """
        CREATE TABLE bed_stay(
            stay INTEGER PRIMARY KEY, patient TEXT NOT NULL, visit TEXT NOT NULL, bed TEXT NOT NULL,
            start_us INTEGER NOT NULL, end_us INTEGER, void INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX bed_stay_bed ON bed_stay(bed, start_us);
        CREATE INDEX bed_stay_patient ON bed_stay(patient, start_us);
        CREATE TABLE bed_device(
            link INTEGER PRIMARY KEY, device TEXT NOT NULL, bed TEXT NOT NULL, patient TEXT NOT NULL,
            start_us INTEGER NOT NULL, end_us INTEGER
        );
        CREATE INDEX bed_device_device ON bed_device(device, start_us);
        """,
        protected=("bed_stay.patient", "bed_stay.visit", "bed_device.patient"),
    ),
)
"""Tables of stays and device links. Times are microseconds since 1970 UTC; an open end is NULL."""

_STAY = "SELECT patient, visit, bed, start_us, end_us FROM bed_stay WHERE void=0 AND "
_NOW_1 = "start_us<=?1 AND (end_us IS NULL OR end_us>?1)"
_NOW_2 = "start_us<=?2 AND (end_us IS NULL OR end_us>?2)"
_IN_BED = f"SELECT patient FROM bed_stay WHERE bed=?1 AND void=0 AND {_NOW_2}"  # noqa: S608  (constants of ours)  # nosec B608
_OF_DEVICE = f"SELECT bed, patient FROM bed_device WHERE device=?1 AND {_NOW_2} LIMIT 1"  # noqa: S608  (as above)  # nosec B608
_LINKS = f"SELECT device, bed, patient, start_us, end_us FROM bed_device WHERE {_NOW_1} ORDER BY device"  # noqa: S608  (as above)  # nosec B608


@dataclass(frozen=True, slots=True)
class Stay:
    """A patient in a bed from ``start`` up to, and not including, ``end`` (None: still there)."""

    patient: str
    visit: str
    bed: str
    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """A device at a bed, or carried by a patient; the other of the two is empty."""

    device: str
    bed: str
    patient: str
    start: datetime
    end: datetime | None = None


class BedBook:
    """Stays and device links on a `storage.Database` opened with ``records.BED_MIGRATIONS``.

    The ``..._in`` methods work inside the caller's transaction. Patients, visits, beds and devices are plain
    texts that the caller keeps unique, e.g. ``"urn:oid:1.2.3|4711"`` and ``"ONK/12/2"``. A stay that a
    cancellation takes back is kept and marked void.

    Parameters
    ----------
    database
        Where the tables are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def move_in(self, cursor: apsw.Cursor, patient: str, bed: str, *, at: datetime, visit: str = "") -> None:
        """Put a patient into a bed from a moment on (admission, transfer); the stay before ends then.

        Nothing changes when the patient is in that bed already.
        """
        when = _us(at)
        open_stay = _open_stay(cursor, patient)
        if open_stay is not None:
            if open_stay[1] == bed:
                return
            _end(cursor, open_stay[0], when)
        cursor.execute(
            "INSERT INTO bed_stay(patient, visit, bed, start_us) VALUES(?,?,?,?)", (patient, visit, bed, when)
        )

    def swap_in(self, cursor: apsw.Cursor, first: str, second: str, *, at: datetime) -> None:
        """Exchange the beds of two patients at one moment.

        Raises
        ------
        InputError
            One of them is in no bed.
        """
        stays = [_open_stay(cursor, patient) for patient in (first, second)]
        if stays[0] is None or stays[1] is None:
            raise InputError(
                "The beds were not exchanged.",
                "One of the two patients is in no bed.",
                "Send an admission or transfer of each instead.",
            )
        when = _us(at)
        for patient, own, other in ((first, stays[0], stays[1]), (second, stays[1], stays[0])):
            _end(cursor, own[0], when)
            cursor.execute(
                "INSERT INTO bed_stay(patient, visit, bed, start_us) VALUES(?,?,?,?)",
                (patient, own[2], other[1], when),
            )

    def leave_in(self, cursor: apsw.Cursor, patient: str, at: datetime) -> None:
        """End the stay of a patient (discharge) and what the patient carries; nothing when there is none."""
        open_stay = _open_stay(cursor, patient)
        if open_stay is not None:
            _end(cursor, open_stay[0], _us(at))
        cursor.execute(
            "UPDATE bed_device SET end_us=max(?, start_us) WHERE patient=? AND end_us IS NULL",
            (_us(at), patient),
        )

    def erase_in(self, cursor: apsw.Cursor, patient_id: str) -> None:
        """Remove every stay and device link of a patient, also under ``system|number``."""
        for table in ("bed_stay", "bed_device"):
            rows: Any = cursor.execute(f"SELECT DISTINCT patient FROM {table}").fetchall()  # noqa: S608  (own names)  # nosec B608
            for (patient,) in rows:
                if str(patient).rpartition("|")[2] == patient_id:
                    cursor.execute(f"DELETE FROM {table} WHERE patient = ?", (patient,))  # noqa: S608  (own names)  # nosec B608

    def take_back_in(self, cursor: apsw.Cursor, patient: str, *, reopen: bool) -> None:
        """Void the open stay of a patient (its admission or transfer is cancelled).

        Parameters
        ----------
        cursor
            Of the caller's transaction.
        patient
            Whose.
        reopen
            The patient is back in the bed before, as after a cancelled transfer.
        """
        open_stay = _open_stay(cursor, patient)
        if open_stay is not None:
            cursor.execute("UPDATE bed_stay SET void=1 WHERE stay=?", (open_stay[0],))
        if reopen:
            self.return_in(cursor, patient)

    def return_in(self, cursor: apsw.Cursor, patient: str) -> None:
        """Open the last stay of a patient again (a discharge is cancelled); nothing when one is open."""
        if _open_stay(cursor, patient) is None:
            cursor.execute(
                "UPDATE bed_stay SET end_us=NULL WHERE stay=(SELECT stay FROM bed_stay WHERE patient=?"
                " AND void=0 ORDER BY start_us DESC, stay DESC LIMIT 1)",
                (patient,),
            )

    def attach_in(
        self, cursor: apsw.Cursor, device: str, at: datetime, *, bed: str = "", patient: str = ""
    ) -> None:
        """Link a device to a bed or to a patient from a moment on; its link before ends then.

        Raises
        ------
        InputError
            Neither or both are given.
        """
        if bool(bed) == bool(patient):
            raise InputError(
                "The device was not linked.",
                "It needs either a bed or a patient.",
                "A fixed monitor stands at a bed; a patient carries a telemetry unit.",
            )
        self.detach_in(cursor, device, at)
        cursor.execute(
            "INSERT INTO bed_device(device, bed, patient, start_us) VALUES(?,?,?,?)",
            (device, bed, patient, _us(at)),
        )

    def detach_in(self, cursor: apsw.Cursor, device: str, at: datetime) -> None:
        """End the link of a device; nothing when it has none."""
        cursor.execute(
            "UPDATE bed_device SET end_us=max(?, start_us) WHERE device=? AND end_us IS NULL",
            (_us(at), device),
        )

    def attach(self, device: str, at: datetime, *, bed: str = "", patient: str = "") -> None:
        """Link a device durably; see `attach_in`."""
        self._database.write(lambda cursor: self.attach_in(cursor, device, at, bed=bed, patient=patient))

    def detach(self, device: str, at: datetime) -> None:
        """End the link of a device durably."""
        self._database.write(lambda cursor: self.detach_in(cursor, device, at))

    def patients_in(self, bed: str, at: datetime) -> tuple[str, ...]:
        """Return who lay in a bed at a moment; more than one when the messages contradict each other."""
        rows = self._rows(_IN_BED, (bed, _us(at)))
        return tuple(dict.fromkeys(str(row[0]) for row in rows))

    def patient_of(self, device: str, at: datetime) -> str | None:
        """Return whose values a device gave at a moment; None when it is nobody's or cannot be told.

        Two patients in one bed are None: a value is never given to the wrong patient by a guess.
        """
        rows = self._rows(_OF_DEVICE, (device, _us(at)))
        if not rows:
            return None
        bed, patient = str(rows[0][0]), str(rows[0][1])
        found = (patient,) if patient else self.patients_in(bed, at)
        return found[0] if len(found) == 1 else None

    def stays(self, patient: str) -> list[Stay]:
        """Return the stays of a patient, the oldest first, void ones left out."""
        rows = self._rows(_STAY + "patient=? ORDER BY start_us, stay", (patient,))
        return [
            Stay(str(p), str(v), str(b), _time(s), _time(e) if e is not None else None)
            for p, v, b, s, e in rows
        ]

    def occupied(self, at: datetime) -> list[Stay]:
        """Return every stay of a moment, by bed."""
        rows = self._rows(_STAY + _NOW_1 + " ORDER BY bed, stay", (_us(at),))
        return [
            Stay(str(p), str(v), str(b), _time(s), _time(e) if e is not None else None)
            for p, v, b, s, e in rows
        ]

    def links(self, at: datetime) -> list[DeviceLink]:
        """Return every device link of a moment, by device."""
        rows = self._rows(_LINKS, (_us(at),))
        return [
            DeviceLink(str(d), str(b), str(p), _time(s), _time(e) if e is not None else None)
            for d, b, p, s, e in rows
        ]

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._database.read() as connection:
            return connection.execute(sql, tuple(values)).fetchall()


def _open_stay(cursor: apsw.Cursor, patient: str) -> tuple[int, str, str] | None:
    row = cursor.execute(
        "SELECT stay, bed, visit FROM bed_stay WHERE patient=? AND end_us IS NULL AND void=0"
        " ORDER BY start_us DESC, stay DESC LIMIT 1",
        (patient,),
    ).fetchone()
    return None if row is None else (int(str(row[0])), str(row[1]), str(row[2]))


def _end(cursor: apsw.Cursor, stay: int, when: int) -> None:
    """End a stay; one that would end before it began was never there."""
    cursor.execute(
        "UPDATE bed_stay SET void=CASE WHEN start_us>?1 THEN 1 ELSE void END, end_us=max(?1, start_us)"
        " WHERE stay=?2",
        (when, stay),
    )


def _us(at: datetime) -> int:
    if at.tzinfo is None:
        raise InputError(
            "The bed association has no usable time.", "It carries no time zone.", "Give an aware datetime."
        )
    return round(at.timestamp() * 1_000_000)


def _time(microseconds: Any) -> datetime:
    return datetime.fromtimestamp(int(str(microseconds)) / 1_000_000, tz=UTC)
