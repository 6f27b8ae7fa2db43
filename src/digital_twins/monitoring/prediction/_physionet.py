"""Stays in the shape of the PhysioNet/CinC Challenge 2012: ``records.parquet`` and ``outcomes.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.monitoring.prediction._parameters import NUMBER, PARAMETERS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HOURS = 48
"""Hours of a stay that are read."""


@dataclass(frozen=True, eq=False)
class Stays:
    """Plausible values of many stays, sorted by stay, parameter and minute.

    Attributes
    ----------
    records
        Identifier of each stay, [stay], as the outcomes list them.
    died
        Whether the patient died in the hospital, [stay].
    stay, parameter
        Place of each value in ``records`` and in the table of parameters, [value].
    minute
        Minutes since admission, [value].
    value
        In the parameter's unit, [value].
    left_out
        Number of values outside their plausible range.
    """

    records: NDArray[np.int64]
    died: NDArray[np.bool_]
    stay: NDArray[np.int64]
    parameter: NDArray[np.int64]
    minute: NDArray[np.float64]
    value: NDArray[np.float64]
    left_out: int

    def __len__(self) -> int:
        return self.records.size

    def subset(self, chosen: NDArray[np.int64]) -> Stays:
        """Return the stays at these places, in increasing order of place."""
        chosen = np.unique(chosen)
        place = np.full(len(self), -1)
        place[chosen] = np.arange(chosen.size)
        keep = place[self.stay] >= 0
        return Stays(
            self.records[chosen],
            self.died[chosen],
            place[self.stay[keep]],
            self.parameter[keep],
            self.minute[keep],
            self.value[keep],
            self.left_out,
        )


def read_stays(folder: Path) -> Stays:
    """Return the stays of a folder, without implausible values.

    Parameters
    ----------
    folder
        Holds ``records.parquet`` (record, minute, parameter, value) and ``outcomes.csv`` (RecordID,
        In-hospital_death), as PhysioNet/CinC Challenge 2012, https://doi.org/10.13026/C2C59N [verify].

    Raises
    ------
    InputError
        If a file or a column is missing, an outcome is neither 0 nor 1, or nothing can be read.
    """
    records, died = _outcomes(folder / "outcomes.csv")
    record, minute, parameter, value = _values(folder / "records.parquet")
    order = np.argsort(records)
    place = np.minimum(np.searchsorted(records[order], record), records.size - 1)
    stay = order[place]
    low = np.array([each.low for each in PARAMETERS])
    high = np.array([each.high for each in PARAMETERS])
    known = (records[stay] == record) & (parameter >= 0) & (minute >= 0) & (minute <= HOURS * 60)
    decimal = (parameter == NUMBER["pH"]) & (value > 650) & (value < 800)
    value = np.where(decimal, value / 100, value)
    plausible = (value >= low[parameter] - 1e-6) & (value <= high[parameter] + 1e-6)
    keep = np.flatnonzero(known & plausible)
    keep = keep[np.lexsort((minute[keep], parameter[keep], stay[keep]))]
    if not keep.size:
        raise InputError(
            "The stays hold no value that can be used.",
            f"No plausible value in {folder.name} belongs to a stay that outcomes.csv lists.",
            "Check that both files describe the same stays and that parameters have the Challenge's names.",
        )
    left_out = int((known & ~plausible).sum())
    return Stays(records, died, stay[keep], parameter[keep], minute[keep], value[keep], left_out)


def _outcomes(path: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["RecordID"]), int(row["In-hospital_death"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise _unreadable(path.name, f"The file cannot be opened ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(
            path.name, "RecordID or In-hospital_death is missing or no whole number."
        ) from error
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    if not rows or not np.isin(table[:, 1], (0, 1)).all() or np.unique(table[:, 0]).size != len(rows):
        raise _unreadable(path.name, "It is empty, names a stay twice, or has an outcome other than 0 and 1.")
    return table[:, 0], table[:, 1] == 1


def _values(
    path: Path,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["record", "minute", "parameter", "value"])
        names = table.column("parameter").combine_chunks().dictionary_encode()
        codes = np.array([NUMBER.get(str(name), -1) for name in names.dictionary.to_pylist()])
        return (
            table.column("record").to_numpy().astype(np.int64),
            table.column("minute").to_numpy().astype(np.float64),
            codes[names.indices.to_numpy(zero_copy_only=False)],
            table.column("value").to_numpy().astype(np.float64),
        )
    except (OSError, pa.ArrowException, KeyError, ValueError, IndexError) as error:
        raise _unreadable(path.name, "It is no Parquet table of record, minute, parameter, value.") from error


def _unreadable(name: str, why: str) -> InputError:
    return InputError(
        f"{name} cannot be read.", why, "Give a folder in the shape of PhysioNet/CinC Challenge 2012 set-a."
    )
