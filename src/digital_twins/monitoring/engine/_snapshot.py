"""The state of a monitor as arrays, and back: filters, twins, baselines, rules, shelves, marks of duplicates.

The last readings are not in it: they lie beside it, an hour of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from digital_twins.monitoring.storage import Line, line_of, reading_of
from digital_twins.monitoring.twin import SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from digital_twins.monitoring.engine._monitor import PatientMonitor
    from digital_twins.monitoring.signals import PerPatient

    Rows = NDArray[np.intp]

_PARTS = ("quality", "trend", "changes", "baseline", "conditions", "technical")
_OWN = ("news2_score", "spo2_scale", "anomaly", "_stopped")
_TWIN = ("mean", "time_s", "oxygen_fraction")
_HALF = "covariance"  # the lower triangle: the filter keeps covariances symmetric to the last bit
_LOWER = np.tril_indices(SIZE)


class _Said(msgspec.Struct):
    """What of the state is no array."""

    patients: list[str]
    gone: dict[str, float]
    shelves: list[tuple[str, str, float, dict[str, Any] | None]]
    quarantine: list[tuple[Line, float]]
    speakers: list[str] = []


_DECODER = msgspec.msgpack.Decoder(_Said)


def monitor_state(monitor: PatientMonitor) -> dict[str, NDArray[Any]]:
    """Return the state of a monitor and of its intake by name; the arrays are copies.

    Parameters
    ----------
    monitor
        With nothing waiting: what was offered has been stepped.
    """
    rows = np.fromiter(monitor.patients.values(), dtype=np.intp, count=len(monitor.patients))
    speakers, marks, aside = monitor.intake.state()
    said = _Said(
        list(monitor.patients),
        monitor.gone,
        monitor.alerts.shelves(),
        [(line_of(reading, received_s), time_s) for reading, time_s, received_s in aside],
        speakers,
    )
    arrays: dict[str, NDArray[Any]] = {
        "said": np.frombuffer(msgspec.msgpack.encode(said), np.uint8),
        "scored": np.array([monitor.scored_s]),
    }
    arrays |= {f"intake.{name}": value for name, value in marks.items()}
    for name in _PARTS:
        part: PerPatient = getattr(monitor, name)
        arrays |= {f"{name}.{each}": value for each, value in part.state(rows).items()}
    if monitor.risk is not None:
        arrays |= {f"risk.{each}": value for each, value in monitor.risk.state(rows).items()}
    arrays |= {f"own.{name}": getattr(monitor, name)[rows] for name in _OWN}
    arrays |= {f"twin.{name}": getattr(monitor.twin, name)[rows] for name in _TWIN}
    arrays[_HALF] = monitor.twin.covariance[rows[:, None], *_LOWER]
    bodies = monitor.twin.bodies
    arrays |= {
        f"body.{name}": np.asarray(getattr(bodies, name))[rows] for name in bodies.__dataclass_fields__
    }
    return arrays


def resume_monitor(monitor: PatientMonitor, found: Mapping[str, NDArray[Any]]) -> None:
    """Take over the state of `monitor_state` into an empty monitor.

    Raises
    ------
    ConflictError
        The monitor has room for fewer patients.
    """
    said = _DECODER.decode(found["said"].tobytes())
    rows = np.array([monitor.place(each) for each in said.patients], dtype=np.intp)
    monitor.gone.update(said.gone)
    monitor.scored_s = float(found["scored"][0])
    monitor.alerts.resume_shelves(said.shelves)
    aside = [(*reading_of(line), time_s) for line, time_s in said.quarantine]
    monitor.intake.resume(
        said.speakers,
        _of(found, "intake"),
        [(reading, time_s, received_s) for reading, received_s, time_s in aside],
    )
    for name in _PARTS:
        part: PerPatient = getattr(monitor, name)
        part.resume(rows, _of(found, name))
    if monitor.risk is not None:
        monitor.risk.resume(rows, _of(found, "risk"))
    bodies = monitor.twin.bodies
    whole: tuple[tuple[str, Any], ...] = (("own", monitor), ("twin", monitor.twin), ("body", bodies))
    for prefix, holder in whole:
        for name, value in _of(found, prefix).items():
            own = np.asarray(getattr(holder, name))
            if value.shape[1:] == own.shape[1:]:
                own[rows] = value
    if _HALF in found:  # versions before wrote all of it, as one of the twin's arrays
        first, second = _LOWER
        monitor.twin.covariance[rows[:, None], first, second] = found[_HALF]
        monitor.twin.covariance[rows[:, None], second, first] = found[_HALF]


def _of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
