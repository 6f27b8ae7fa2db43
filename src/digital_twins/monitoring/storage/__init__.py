"""What is kept: rings in memory, the last hour, history in Parquet, the audit trail, keys."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.storage._accesses import AccessTrail as AccessTrail
    from digital_twins.monitoring.storage._history import History as History
    from digital_twins.monitoring.storage._keys import store_key as store_key
    from digital_twins.monitoring.storage._ring import Ring as Ring
    from digital_twins.monitoring.storage._state import (
        Line as Line,
        StateStore as StateStore,
        Values as Values,
        line_of as line_of,
        reading_of as reading_of,
    )
    from digital_twins.monitoring.storage._trail import (
        ward_auditor as ward_auditor,
        writing_trail as writing_trail,
    )

_ROOM = "digital_twins.monitoring.storage"
_WHERE = {
    "AccessTrail": f"{_ROOM}._accesses",
    "History": f"{_ROOM}._history",
    "store_key": f"{_ROOM}._keys",
    "Ring": f"{_ROOM}._ring",
    **dict.fromkeys(("Line", "StateStore", "Values", "line_of", "reading_of"), f"{_ROOM}._state"),
    **dict.fromkeys(("ward_auditor", "writing_trail"), f"{_ROOM}._trail"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
