"""What lets a monitor go on where it stopped: a snapshot, the readings since, and the last hour's values."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from digital_twins.monitoring.signals import VITALS, Batch, Named, Reading
from digital_twins.monitoring.storage._packing import pack_arrays, unpack_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import apsw
    from numpy.typing import NDArray

    from digital_twins.storage import Database

    Floats = NDArray[np.float64]
    Values = tuple[Named, Floats, NDArray[np.float32]]

HOUR_S = 3600.0
Line = tuple[float, str, float, dict[str, float], tuple[str, ...], int]
"""A reading: arrival, device, its time, values, events, number."""
_ENCODE = msgspec.msgpack.Encoder().encode


class _Columns(msgspec.Struct, array_like=True):
    """Readings that arrived together: values lie row by row without those that are missing."""

    received_s: float
    devices: list[str]
    device_time_s: bytes
    sequence: bytes
    known: bytes
    values: bytes
    events: dict[int, tuple[str, ...]]


_ZLIB = b"\x78"  # begins what versions before wrote
_COLUMNS = b"\xc1"  # begins no msgpack: before it, versions wrote a `Line` a reading
_JOURNAL = msgspec.msgpack.Decoder(list[_Columns])
_LINES = msgspec.msgpack.Decoder(list[Line])
_PATIENTS = msgspec.msgpack.Decoder(list[str])


class StateStore:
    """Tables of one part of a ward.

    Parameters
    ----------
    database
        Opened with `MIGRATIONS`.
    part
        Number of the part.
    """

    def __init__(self, database: Database, part: int) -> None:
        self._database, self.part = database, part

    def write_journal(self, cursor: apsw.Cursor, batches: Sequence[tuple[Batch, float]]) -> None:
        """Write readings and their times of arrival, inside a transaction."""
        data = _COLUMNS + _ENCODE([_columns_of(each, received_s) for each, received_s in batches])
        cursor.execute("INSERT INTO monitor_journal(part, data) VALUES (?, ?)", (self.part, data))

    def write_snapshot(
        self,
        cursor: apsw.Cursor,
        state: Mapping[str, NDArray[Any]],
        values: Values | None,
        *,
        at_s: float,
        kept: bool,
    ) -> None:
        """Write a snapshot and the values since the last one; the journal before it is no longer needed.

        Parameters
        ----------
        state
            Of `monitor_state`.
        values
            Patients, times and clean values; None: there are none.
        at_s
            Now; values of more than an hour before are forgotten.
        kept
            The values before are in the history's files.
        """
        part = self.part
        cursor.execute("DELETE FROM monitor_journal WHERE part = ?", (part,))
        cursor.execute(
            "INSERT INTO monitor_snapshot(part, at_s, data) VALUES (?, ?, ?)"
            " ON CONFLICT(part) DO UPDATE SET at_s = excluded.at_s, data = excluded.data",
            (part, at_s, pack_arrays(state, codec="lz4_raw")),
        )
        if kept:
            self.mark_kept(cursor)
        if values is not None:
            cursor.execute(
                "INSERT INTO monitor_sample(part, until_s, kept, data) VALUES (?, ?, 0, ?)",
                (part, float(values[1].max()), packed(values)),
            )
        cursor.execute(
            "DELETE FROM monitor_sample WHERE part = ? AND until_s < ? AND kept = 1", (part, at_s - HOUR_S)
        )

    def snapshot(self) -> dict[str, NDArray[Any]] | None:
        """Return the last snapshot; None: there is none; raises StorageError when it cannot be read."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT data FROM monitor_snapshot WHERE part = ?", (self.part,)
            ).fetchone()
        return None if row is None else unpack_arrays(bytes(row[0]))

    def journal(self) -> list[tuple[Batch, float]]:
        """Return the readings since the snapshot and when they arrived, in their order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT data FROM monitor_journal WHERE part = ? ORDER BY number", (self.part,)
            ).fetchall()
        return [each for (data,) in rows for each in _journalled(bytes(data))]  # type: ignore[arg-type]

    def values(self, *, most: float) -> list[Values]:
        """Return the latest clean values of the last hour, in their order, until there are `most`."""
        with self._database.read() as connection:
            numbers = connection.execute(
                "SELECT number FROM monitor_sample WHERE part = ? ORDER BY number DESC", (self.part,)
            ).fetchall()
        found: list[Values] = []
        for (number,) in numbers:
            if most <= 0:
                break
            found.append(self._piece(int(str(number))))
            most -= len(found[-1][0])
        return found[::-1]

    def loose_values(self) -> list[Values]:
        """Return the clean values that are in no file of the history yet, in their order."""
        with self._database.read() as connection:
            numbers = connection.execute(
                "SELECT number FROM monitor_sample WHERE part = ? AND kept = 0 ORDER BY number", (self.part,)
            ).fetchall()
        return [self._piece(int(str(number))) for (number,) in numbers]

    def mark_kept(self, cursor: apsw.Cursor) -> None:
        """Say that all values are in the history's files, inside a transaction."""
        cursor.execute("UPDATE monitor_sample SET kept = 1 WHERE part = ? AND kept = 0", (self.part,))

    def _piece(self, number: int) -> Values:
        with self._database.read() as connection:
            row = connection.execute("SELECT data FROM monitor_sample WHERE number = ?", (number,)).fetchone()
        return unpacked(bytes(row[0] if row is not None else b""))


def _columns_of(batch: Batch, received_s: float) -> _Columns:
    known = np.isfinite(batch.values)
    return _Columns(
        received_s,
        batch.devices,
        batch.device_time_s.tobytes(),
        batch.sequence.tobytes(),
        np.packbits(known, axis=1).tobytes(),
        batch.values[known].tobytes(),
        dict(batch.events),
    )


def _journalled(data: bytes) -> list[tuple[Batch, float]]:
    """Return the readings of one row of the journal and when they arrived."""
    if data.startswith(_COLUMNS):
        return [(_batch_of(each), each.received_s) for each in _JOURNAL.decode(data[1:])]
    return [(Batch.of([reading]), at_s) for reading, at_s in map(reading_of, _LINES.decode(data))]


def _batch_of(columns: _Columns) -> Batch:
    count = len(columns.devices)
    bits = np.frombuffer(columns.known, np.uint8).reshape(count, -1)
    known = np.unpackbits(bits, axis=1, count=len(VITALS)).astype(np.bool_)
    values = np.full(known.shape, np.nan)
    values[known] = np.frombuffer(columns.values)
    times, sequence = np.frombuffer(columns.device_time_s), np.frombuffer(columns.sequence, np.int64)
    return Batch(columns.devices, times.copy(), sequence.copy(), values, columns.events)


def line_of(reading: Reading, received_s: float) -> Line:
    """Return a reading as plain values."""
    held = reading.values
    values = held if isinstance(held, dict) else dict(held)
    return received_s, reading.device, reading.device_time_s, values, reading.events, reading.sequence


def reading_of(line: Line) -> tuple[Reading, float]:
    """Return what `line_of` took."""
    received_s, device, time_s, values, events, sequence = line
    return Reading(device, time_s, values, events, sequence), received_s


def packed(values: Values) -> bytes:
    """Return patients, times and values as compressed bytes."""
    names, times, table = values
    known, rows = names.compact()
    columns: dict[str, NDArray[Any]] = {
        "names": np.frombuffer(_ENCODE(known), np.uint8),
        "rows": rows.astype(np.int32),
        "times": times.astype(np.float64),
        "values": table.astype(np.float32).T,
    }
    return pack_arrays(columns, codec="zstd")


def unpacked(data: bytes) -> Values:
    """Return what `packed` took."""
    if data[:1] == _ZLIB:
        return _unpacked_zlib(data)
    columns = unpack_arrays(data)
    names = _PATIENTS.decode(columns["names"].tobytes())
    return Named(columns["rows"].astype(np.int64), names), columns["times"], columns["values"].T


def _unpacked_zlib(data: bytes) -> Values:
    """Read what versions before wrote."""
    head, body = msgspec.msgpack.decode(zlib.decompress(data))
    count = len(body) // (12 + 4 * len(VITALS))
    rows = np.frombuffer(body, np.int32, count)
    times = np.frombuffer(body, np.float64, count, 4 * count)
    table = np.frombuffer(body, np.float32, count * len(VITALS), 12 * count)
    named = Named(rows.astype(np.int64), _PATIENTS.decode(head))
    return named, times, table.reshape(len(VITALS), count).T
