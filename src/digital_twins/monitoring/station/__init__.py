"""The central station: its page, who may enter, and the HTTP and WebSocket doors."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.station._doors import Doors as Doors, monitor_app as monitor_app
    from digital_twins.monitoring.station._entrance import (
        Entrance as Entrance,
        body_of as body_of,
        decoded as decoded,
        doors_app as doors_app,
        malformed as malformed,
    )
    from digital_twins.monitoring.station._people import People as People, StaffMember as StaffMember

_ROOM = "digital_twins.monitoring.station"
_WHERE = {
    **dict.fromkeys(("Doors", "monitor_app"), f"{_ROOM}._doors"),
    **dict.fromkeys(("Entrance", "body_of", "decoded", "doors_app", "malformed"), f"{_ROOM}._entrance"),
    **dict.fromkeys(("People", "StaffMember"), f"{_ROOM}._people"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
