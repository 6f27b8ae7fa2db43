"""A divided ward on one machine: its front and its workers."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.ward._ward import (
        WardSize as WardSize,
        run_ward as run_ward,
        run_worker as run_worker,
    )

_ROOM = "digital_twins.monitoring.ward"
_WHERE = {
    **dict.fromkeys(("WardSize", "run_ward", "run_worker"), f"{_ROOM}._ward"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
