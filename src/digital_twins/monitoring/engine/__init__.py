"""All patients in one pass: readings in, living twins and alerts out; its state as bytes."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.engine._demo import (
        VirtualWard as VirtualWard,
        replay_record as replay_record,
    )
    from digital_twins.monitoring.engine._monitor import PatientMonitor as PatientMonitor
    from digital_twins.monitoring.engine._snapshot import (
        monitor_state as monitor_state,
        resume_monitor as resume_monitor,
    )

_ROOM = "digital_twins.monitoring.engine"
_WHERE = {
    **dict.fromkeys(("VirtualWard", "replay_record"), f"{_ROOM}._demo"),
    "PatientMonitor": f"{_ROOM}._monitor",
    **dict.fromkeys(("monitor_state", "resume_monitor"), f"{_ROOM}._snapshot"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
