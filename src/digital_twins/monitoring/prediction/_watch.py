"""The learned risk beside the bed: vital signs charted each hour, asked each hour, with reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins.monitoring.prediction._parameters import NUMBER, PARAMETERS
from digital_twins.monitoring.prediction._physionet import HOURS, Stays
from digital_twins.monitoring.signals import COLUMN, PerPatient

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.monitoring.prediction._model import DeathRisk

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

FIRST_ASKED_H = 6
"""The first hour at which the risk is asked, as in the evaluation."""
_AT_ONCE = 256
_REASONS = 3
# Not SPO2: these models know saturation from blood samples, which are rare and drawn for a reason.
_CHARTED = (
    ("HR", ("HR", "PULSE")),
    ("MAP", ("ART_MEAN",)),
    ("SysABP", ("ART_SYS",)),
    ("DiasABP", ("ART_DIA",)),
    ("NIMAP", ("NIBP_MEAN",)),
    ("NISysABP", ("NIBP_SYS",)),
    ("NIDiasABP", ("NIBP_DIA",)),
    ("Temp", ("TEMP",)),
    ("RespRate", ("RR",)),
)


class RiskWatch(PerPatient):
    """Risk of in-hospital death of monitored patients, each hour from the 6th to the 48th.

    Hours count from when the monitor first saw the patient. Once an hour the shown values are charted, as a
    nurse would: the model has learned from such charts, not from monitors.

    Parameters
    ----------
    model
        On vital signs only.
    count
        Patients.

    Attributes
    ----------
    risk
        Of each patient, [count]; NaN before the first answer. The last one stays after hour 48.
    """

    def __init__(self, model: DeathRisk, count: int) -> None:
        self.model = model
        self.risk = np.full(count, np.nan)
        self._charted = np.full((count, HOURS + 1, len(_CHARTED)), np.nan, dtype=np.float32)
        self._begin_s = np.full(count, np.nan)
        self._hour = np.full(count, -1, dtype=np.int16)
        self._keep("risk", "_charted", "_begin_s", "_hour")

    def tick(self, rows: Rows, now_s: float, shown: NDArray[np.floating[Any]]) -> Rows:
        """Chart and ask what is due, some 256 patients a call at most; return the rows with a new risk.

        Parameters
        ----------
        rows
            Of the patients.
        now_s
            Seconds since 1970 UTC.
        shown
            Their vital signs, [row of rows, vital]; NaN where nothing is shown.
        """
        began = np.isnan(self._begin_s[rows])
        self._begin_s[rows[began]] = now_s
        hour = np.floor((now_s - self._begin_s[rows]) / 3600.0).astype(np.int64)
        due = np.flatnonzero((hour > self._hour[rows]) & (hour <= HOURS))[:_AT_ONCE]
        for place, (_, codes) in enumerate(_CHARTED):
            value = shown[due, COLUMN[codes[0]]]
            for code in codes[1:]:
                value = np.where(np.isnan(value), shown[due, COLUMN[code]], value)
            self._charted[rows[due], hour[due], place] = value
        self._hour[rows[due]] = hour[due]
        asked = due[hour[due] >= FIRST_ASKED_H]
        for each in np.unique(hour[asked]):
            same = rows[asked[hour[asked] == each]]
            self.risk[same] = self.model.risk(self._stays(same), hours=float(each))
        return rows[asked]

    def reasons(self, row: int) -> list[tuple[str, float]]:
        """Return the inputs that moved a patient's last risk most, with their share of its log-odds."""
        rows, hour = np.array([row], dtype=np.intp), float(max(int(self._hour[row]), 0))
        return self.model.reasons(self._stays(rows), hours=hour, number=_REASONS)[0]

    def told(self, row: int) -> str:
        """Return the risk and its reasons in words."""
        parts = ", ".join(f"{name} {share:+.2f}" for name, share in self.reasons(row))
        return f"{self.risk[row]:.0%} at hour {int(self._hour[row])}; log-odds: {parts}"

    def view(self, row: int) -> dict[str, Any] | None:
        """Return risk, hour and reasons of a patient as plain values; None before the first answer."""
        if np.isnan(self.risk[row]):
            return None
        reasons = [{"input": name, "log_odds": round(share, 3)} for name, share in self.reasons(row)]
        return {"death": round(float(self.risk[row]), 4), "hour": int(self._hour[row]), "reasons": reasons}

    def _stays(self, rows: Rows) -> Stays:
        """Return the charts of some patients as stays; implausible values are left out."""
        table = self._charted[rows]
        order = np.argsort([NUMBER[name] for name, _ in _CHARTED])
        number = np.array([NUMBER[_CHARTED[place][0]] for place in order])
        low = np.array([PARAMETERS[each].low for each in number])[:, None]
        high = np.array([PARAMETERS[each].high for each in number])[:, None]
        value = table[:, :, order].transpose(0, 2, 1)  # [stay, parameter, hour], as stays are sorted
        stay, place, hour = np.nonzero((value >= low) & (value <= high))
        return Stays(
            np.arange(len(rows)),
            np.zeros(len(rows), dtype=np.bool_),
            stay,
            number[place],
            (hour * 60).astype(np.float64),
            value[stay, place, hour].astype(np.float64),
            0,
        )
