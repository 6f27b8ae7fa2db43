"""The running monitor: its doors, a pass five times a second, and what it writes."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.service._run import (
        MonitorPorts as MonitorPorts,
        open_ward as open_ward,
        read_people as read_people,
        run_monitor as run_monitor,
        serving as serving,
    )
    from digital_twins.monitoring.service._service import MonitorService as MonitorService

_ROOM = "digital_twins.monitoring.service"
_WHERE = {
    **dict.fromkeys(("MonitorPorts", "open_ward", "read_people", "run_monitor", "serving"), f"{_ROOM}._run"),
    "MonitorService": f"{_ROOM}._service",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
