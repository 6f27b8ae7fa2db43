"""The state of a monitor as bytes, and back: filters, twins, baselines, rules, shelves, marks of duplicates.

The last readings are not in it: they lie beside it, an hour of them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from digital_twins.monitoring.storage import Line, line_of, reading_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.monitoring.engine._monitor import PatientMonitor
    from digital_twins.monitoring.signals import PerPatient

    Rows = NDArray[np.intp]

_PARTS = ("quality", "trend", "changes", "baseline", "conditions", "technical")
_OWN = ("news2_score", "spo2_scale", "anomaly", "_stopped")
_TWIN = ("mean", "covariance", "time_s", "oxygen_fraction")


class _Said(msgspec.Struct):
    """What of the state is no array."""

    patients: list[str]
    gone: dict[str, float]
    shelves: list[tuple[str, str, float, dict[str, Any] | None]]
    quarantine: list[tuple[Line, float]]
    speakers: list[str] = []


_DECODER = msgspec.msgpack.Decoder(_Said)


def monitor_state(monitor: PatientMonitor) -> bytes:
    """Return the state of a monitor and of its intake.

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
    arrays |= {f"own.{name}": getattr(monitor, name)[rows] for name in _OWN}
    arrays |= {f"twin.{name}": getattr(monitor.twin, name)[rows] for name in _TWIN}
    bodies = monitor.twin.bodies
    arrays |= {
        f"body.{name}": np.asarray(getattr(bodies, name))[rows] for name in bodies.__dataclass_fields__
    }
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def resume_monitor(monitor: PatientMonitor, data: bytes) -> None:
    """Take over the state of `monitor_state` into an empty monitor.

    Raises
    ------
    ConflictError
        The monitor has room for fewer patients.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        found = dict(arrays)
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
    bodies = monitor.twin.bodies
    whole: tuple[tuple[str, Any], ...] = (("own", monitor), ("twin", monitor.twin), ("body", bodies))
    for prefix, holder in whole:
        for name, value in _of(found, prefix).items():
            own = np.asarray(getattr(holder, name))
            if value.shape[1:] == own.shape[1:]:
                own[rows] = value


def _of(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
