"""The analysis app over the HTTP API of a running monitor, and a client of that API."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.analysis._client import (
        MonitorClient as MonitorClient,
        MonitorRefusedError as MonitorRefusedError,
    )
    from digital_twins.monitoring.analysis._start import run_analysis as run_analysis

_ROOM = "digital_twins.monitoring.analysis"
_WHERE = {
    **dict.fromkeys(("MonitorClient", "MonitorRefusedError"), f"{_ROOM}._client"),
    "run_analysis": f"{_ROOM}._start",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
