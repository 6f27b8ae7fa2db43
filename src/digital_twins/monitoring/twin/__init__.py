"""The living twins: physiology, filters over all patients, personal baselines, forecasts and what-if."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.twin._baseline import PersonalBaseline as PersonalBaseline
    from digital_twins.monitoring.twin._live_twin import (
        READING_SD as READING_SD,
        LiveTwin as LiveTwin,
        TwinStep as TwinStep,
        measured as measured,
    )
    from digital_twins.monitoring.twin._particles import (
        ParticleTwin as ParticleTwin,
        systematic_rows as systematic_rows,
    )
    from digital_twins.monitoring.twin._physiology import (
        OBSERVED as OBSERVED,
        SIZE as SIZE,
        SLOW as SLOW,
        STATES as STATES,
        Body as Body,
        Inputs as Inputs,
        advance as advance,
        observe as observe,
        resting_state as resting_state,
    )
    from digital_twins.monitoring.twin._trend import (
        TrendFilter as TrendFilter,
        TrendNoise as TrendNoise,
        TrendStep as TrendStep,
    )
    from digital_twins.monitoring.twin._what_if import (
        Action as Action,
        Outlook as Outlook,
        outlook as outlook,
    )

_ROOM = "digital_twins.monitoring.twin"
_WHERE = {
    "PersonalBaseline": f"{_ROOM}._baseline",
    **dict.fromkeys(("LiveTwin", "READING_SD", "TwinStep", "measured"), f"{_ROOM}._live_twin"),
    **dict.fromkeys(("ParticleTwin", "systematic_rows"), f"{_ROOM}._particles"),
    **dict.fromkeys(
        ("Body", "Inputs", "OBSERVED", "SIZE", "SLOW", "STATES", "advance", "observe", "resting_state"),
        f"{_ROOM}._physiology",
    ),
    **dict.fromkeys(("TrendFilter", "TrendNoise", "TrendStep"), f"{_ROOM}._trend"),
    **dict.fromkeys(("Action", "Outlook", "outlook"), f"{_ROOM}._what_if"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
