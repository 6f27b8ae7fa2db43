"""All readings in rolling Parquet files, read by DuckDB."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import StorageError
from digital_twins.monitoring.signals import COLUMN, VITALS, Named, vital

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


_MOST = 2_000_000
"""Readings that wait for a disk that cannot be written."""
_NAME_STEP_S = 0.001
"""The names of the files hold times in whole milliseconds, cut off."""


class History:
    """Writes readings into one file each `roll_s` seconds of their time, and reads them back.

    Parameters
    ----------
    folder
        Where the files lie; made when missing.
    roll_s
        Readings are kept in memory for that long before they go to a file.
    keep_s
        Files whose last reading is older than that are removed at each roll.
    tag
        Begins the last part of each file's name: parts of a ward write into one folder.
    key
        Of 32 bytes: each file is then a stream of Tink's AES256_GCM_HKDF_1MB, with the file's name as the
        associated data, and ends in ``.sealed``; None: Parquet in clear.
    """

    def __init__(
        self,
        folder: Path,
        *,
        roll_s: float = 60.0,
        keep_s: float = 30 * 86_400.0,
        tag: str = "",
        key: bytes | None = None,
    ) -> None:
        self.folder = folder
        self._key = key
        self._ending = ".parquet" if key is None else ".sealed"
        self._roll_s, self._keep_s, self._tag = roll_s, keep_s, tag
        self._patients: list[Named] = []
        self._size = 0
        self._times: list[Floats] = []
        self._values: list[NDArray[np.float32]] = []
        self._first_s = np.inf
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, patients: Sequence[str] | Named, time_s: Floats, values: NDArray[np.floating[Any]]) -> bool:
        """Take readings, [row] and [row, vital]; return whether all that were taken are in files now."""
        self._patients.append(patients if isinstance(patients, Named) else Named.of(patients))
        self._size += len(patients)
        self._times.append(time_s)
        self._values.append(values.astype(np.float32))
        self._first_s = min(self._first_s, float(time_s.min()))
        if float(time_s.max()) - self._first_s >= self._roll_s:
            return self.flush() is not None
        return False

    def flush(self) -> Path | None:
        """Write what is in memory to a file and return its path; None when there is nothing.

        Raises
        ------
        StorageError
            It cannot be written; the readings stay in memory for the next call.
        """
        if not self._patients:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        times, values = np.concatenate(self._times), np.concatenate(self._values)
        names, rows = Named.join(self._patients).compact()
        patients = pa.DictionaryArray.from_arrays(rows.astype(np.int32), pa.array(names))
        columns: dict[str, Any] = {"patient": patients, "time_s": times}
        columns |= {each.code: pa.array(values[:, n], from_pandas=True) for n, each in enumerate(VITALS)}
        first, last = int(times.min() * 1000), int(times.max() * 1000)
        path = self.folder / f"{first}-{last}-{self._tag}{os.getpid()}-{self._number}{self._ending}"
        part = path.with_suffix(".part")
        try:
            if self._key is None:
                pq.write_table(pa.table(columns), part, compression="zstd")
            else:
                _write_sealed(pa.table(columns), part, key=self._key, name=path.name)
            part.replace(path)
        except (OSError, pa.ArrowException) as error:
            part.unlink(missing_ok=True)
            self._shorten()
            raise StorageError(
                "The readings were not written to the history.",
                f"The system answered: {type(error).__name__}.",
                "Make room on the disk; they are tried again.",
            ) from error
        self._patients, self._times, self._values, self._size = [], [], [], 0
        self._first_s, self._number = np.inf, self._number + 1
        self._forget(last / 1000.0)
        return path

    def _shorten(self) -> None:
        """Give up the oldest pieces when too much waits for a disk that stays full."""
        while self._size > _MOST and len(self._times) > 1:
            self._size -= len(self._times[0])
            del self._patients[0], self._times[0], self._values[0]

    def read(self, patient: str, code: str, *, since_s: float, until_s: float) -> tuple[Floats, Floats]:
        """Return times and values of one vital sign from the files, by time; without what is in memory.

        What a kill left in two files is returned once.

        Raises
        ------
        NotFoundError
            The vital sign is not known.
        """
        import duckdb

        vital(code)
        if self._key is not None:
            return self._read_sealed(patient, code, since_s, until_s)
        if not list(self.folder.glob("*.parquet")):
            return np.empty(0), np.empty(0)
        with duckdb.connect() as connection:
            found = connection.execute(
                f"SELECT DISTINCT time_s, {list(COLUMN)[COLUMN[code]]} AS value FROM read_parquet(?)"  # noqa: S608  (a known name)  # nosec B608
                " WHERE patient = ? AND time_s BETWEEN ? AND ? AND value IS NOT NULL ORDER BY time_s",
                [str(self.folder / "*.parquet"), patient, since_s, until_s],
            ).fetchnumpy()
        return np.asarray(found["time_s"], dtype=np.float64), np.asarray(found["value"], dtype=np.float64)

    def _read_sealed(self, patient: str, name: str, since_s: float, until_s: float) -> tuple[Floats, Floats]:
        """Open, in memory, only the files whose names say that they reach into the time asked for."""
        import pyarrow.parquet as pq

        assert self._key is not None  # the caller has looked
        wanted = [("patient", "=", patient), ("time_s", ">=", since_s), ("time_s", "<=", until_s)]
        times, values = [np.empty(0)], [np.empty(0)]
        for path in self.folder.glob("*.sealed"):
            first, last = (int(each) / 1000.0 for each in path.name.split("-")[:2])
            if first > until_s or last + _NAME_STEP_S < since_s:
                continue
            file = _opened(path, key=self._key)
            table = pq.read_table(file, columns=["time_s", name], filters=wanted).drop_null()
            times.append(table["time_s"].to_numpy())
            values.append(table[name].to_numpy())
        time_s = np.concatenate(times)
        order = np.argsort(time_s, kind="stable")
        return time_s[order], np.concatenate(values).astype(np.float64)[order]

    def _forget(self, now_s: float) -> None:
        for path in self.folder.glob(f"*{self._ending}"):
            if int(path.name.split("-")[1]) / 1000.0 < now_s - self._keep_s:
                path.unlink(missing_ok=True)


def _write_sealed(table: pa.Table, part: Path, *, key: bytes, name: str) -> None:
    """Write a table as an encrypted Parquet file; in clear it is only in memory."""
    import pyarrow.parquet as pq

    from digital_twins.crypto import encrypt_stream

    plain = io.BytesIO()
    pq.write_table(table, plain, compression="zstd")
    plain.seek(0)
    with part.open("wb") as target:
        encrypt_stream(plain, target, key=key, associated_data=name.encode())


def _opened(path: Path, *, key: bytes) -> io.BytesIO:
    from digital_twins.crypto import decrypt_stream

    plain = io.BytesIO()
    with path.open("rb") as source:
        decrypt_stream(source, plain, key=key, associated_data=path.name.encode())
    plain.seek(0)
    return plain
