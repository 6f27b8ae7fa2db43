"""Virtual patients: profiles, scenarios of the twins' physiology, waveforms, and replay of records."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.simulation._profiles import (
        PatientProfile as PatientProfile,
        load_profiles as load_profiles,
    )
    from digital_twins.monitoring.simulation._replay import replay_numerics as replay_numerics
    from digital_twins.monitoring.simulation._scenarios import (
        SCENARIOS as SCENARIOS,
        Scenario as Scenario,
        SyntheticPatients as SyntheticPatients,
    )
    from digital_twins.monitoring.simulation._waveforms import SimulatedWaveforms as SimulatedWaveforms

_ROOM = "digital_twins.monitoring.simulation"
_WHERE = {
    **dict.fromkeys(("PatientProfile", "load_profiles"), f"{_ROOM}._profiles"),
    "replay_numerics": f"{_ROOM}._replay",
    **dict.fromkeys(("SCENARIOS", "Scenario", "SyntheticPatients"), f"{_ROOM}._scenarios"),
    "SimulatedWaveforms": f"{_ROOM}._waveforms",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
