"""A ward in parts: who works on which, by leases, and what the parts tell each other."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.parts._exchange import (
        NO_POST as NO_POST,
        Ask as Ask,
        Exchange as Exchange,
        Heard as Heard,
        send_asks as send_asks,
        send_lines as send_lines,
        told_since as told_since,
    )
    from digital_twins.monitoring.parts._homes import Homes as Homes, device_part as device_part
    from digital_twins.monitoring.parts._lease import (
        BEAT_S as BEAT_S,
        LEASE_S as LEASE_S,
        Holding as Holding,
        Leases as Leases,
        PartLostError as PartLostError,
    )
    from digital_twins.monitoring.parts._part import (
        WardPart as WardPart,
        open_monitor_database as open_monitor_database,
    )
    from digital_twins.monitoring.parts._plan import (
        WardPlan as WardPlan,
        read_plan as read_plan,
        write_plan as write_plan,
    )

_ROOM = "digital_twins.monitoring.parts"
_WHERE = {
    **dict.fromkeys(
        ("Ask", "Exchange", "Heard", "NO_POST", "send_asks", "send_lines", "told_since"), f"{_ROOM}._exchange"
    ),
    **dict.fromkeys(("Homes", "device_part"), f"{_ROOM}._homes"),
    **dict.fromkeys(("BEAT_S", "Holding", "LEASE_S", "Leases", "PartLostError"), f"{_ROOM}._lease"),
    **dict.fromkeys(("WardPart", "open_monitor_database"), f"{_ROOM}._part"),
    **dict.fromkeys(("WardPlan", "read_plan", "write_plan"), f"{_ROOM}._plan"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
