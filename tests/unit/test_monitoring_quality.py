"""Bad signals are blanked with their reason; what may be a dying patient never is."""

from __future__ import annotations

import numpy as np
import pytest

from digital_twins.monitoring import COLUMN, VITALS, Checked, Quality, QualityChecks


def row(**values: float) -> np.ndarray:
    out = np.full((1, len(VITALS)), np.nan)
    for code, value in values.items():
        out[0, COLUMN[code]] = value
    return out


class Bedside:
    """One patient whose readings come one after the other."""

    def __init__(self) -> None:
        self.checks, self.time_s = QualityChecks(1), 0.0

    def send(self, after_s: float = 1.0, **values: float) -> Checked:
        self.time_s += after_s
        return self.checks.step(np.array([0]), np.array([self.time_s]), row(**values))

    def flag(self, code: str, after_s: float = 1.0, **values: float) -> Quality:
        return Quality(self.send(after_s, **values).flags[0, COLUMN[code]])


@pytest.fixture
def bed() -> Bedside:
    bedside = Bedside()
    bedside.send(HR=72, PULSE=72, SPO2=97, RR=14, TEMP=37, ART_SYS=120, ART_DIA=70, ART_MEAN=87, NIBP_SYS=118)
    return bedside


@pytest.mark.parametrize(
    "values",
    [
        {"SPO2": 0},
        {"PULSE": 0, "HR": 71},
        {"ART_SYS": 0},
        {"ART_DIA": 0},
        {"ART_MEAN": 0},
        {"NIBP_SYS": 0},
        {"HR": 0, "PULSE": 70},
        {"RR": 0, "HR": 0, "PULSE": 0},
    ],
)
def test_zero_of_a_disconnected_sensor_is_lead_off(bed: Bedside, values: dict[str, float]) -> None:
    code = next(iter(values))
    found = bed.send(**values)
    assert found.flags[0, COLUMN[code]] == Quality.LEAD_OFF
    assert np.isnan(found.values[0, COLUMN[code]])


def test_heart_rate_of_zero_without_a_pulse_is_asystole_and_kept(bed: Bedside) -> None:
    for values in ({"HR": 0}, {"HR": 0, "PULSE": 0, "SPO2": 0, "RR": 0}):
        found = bed.send(**values)
        assert found.asystole[0]
        assert found.values[0, COLUMN["HR"]] == 0


def test_heart_rate_of_zero_with_a_pulsatile_line_is_lead_off(bed: Bedside) -> None:
    found = bed.send(HR=0, ART_SYS=118, ART_DIA=70, ART_MEAN=86)
    assert not found.asystole[0]
    assert found.flags[0, COLUMN["HR"]] == Quality.LEAD_OFF


def test_zero_before_any_heart_rate_is_no_asystole() -> None:
    assert not Bedside().send(HR=0, PULSE=0).asystole[0]


def test_breath_rate_of_zero_with_a_beating_heart_is_apnoea(bed: Bedside) -> None:
    found = bed.send(HR=70, RR=0)
    assert found.apnoea[0]
    assert found.values[0, COLUMN["RR"]] == 0


@pytest.mark.parametrize("vital", VITALS, ids=lambda vital: vital.code)
def test_range_of_every_vital(vital) -> None:
    for value in (vital.low - 0.5, vital.high + 0.5):
        if value:
            assert Bedside().flag(vital.code, **{vital.code: value}) in {
                Quality.OUT_OF_RANGE,
                Quality.LEAD_OFF,
            }
    assert Bedside().flag(vital.code, **{vital.code: (vital.low + vital.high) / 2}) == Quality.GOOD


def test_jump_is_refused_until_it_has_lasted(bed: Bedside) -> None:
    assert bed.flag("HR", HR=190) == Quality.TOO_FAST
    assert bed.flag("HR", HR=190) == Quality.GOOD
    assert bed.flag("TEMP", TEMP=39) == Quality.TOO_FAST  # three seconds at half a degree a second are less
    assert bed.flag("TEMP", TEMP=39) == Quality.GOOD


def test_frozen_signal_is_flat(bed: Bedside) -> None:
    flags = [bed.flag("HR", 60.0, HR=72) for _ in range(20)]
    assert flags[:14] == [Quality.GOOD] * 14
    assert flags[-1] == Quality.FLAT
    assert bed.flag("HR", HR=73) == Quality.GOOD


def test_pressures_that_contradict_each_other(bed: Bedside) -> None:
    assert bed.flag("ART_MEAN", ART_SYS=120, ART_DIA=70, ART_MEAN=60) == Quality.CONTRADICTED
    assert bed.flag("NIBP_SYS", NIBP_SYS=70, NIBP_DIA=80, NIBP_MEAN=75) == Quality.CONTRADICTED


def test_pulse_far_from_the_heart_rate_is_marked_and_the_heart_rate_stays(bed: Bedside) -> None:
    found = bed.send(5.0, HR=150, PULSE=75)
    assert found.flags[0, COLUMN["PULSE"]] == Quality.CONTRADICTED
    assert found.values[0, COLUMN["HR"]] == 150


def test_old_values_are_no_longer_shown(bed: Bedside) -> None:
    assert bed.checks.shown(bed.time_s + 29)[0, COLUMN["HR"]] == 72
    assert np.isnan(bed.checks.shown(bed.time_s + 31)[0, COLUMN["HR"]])
    assert bed.checks.shown(bed.time_s + 31)[0, COLUMN["NIBP_SYS"]] == 118
    assert bed.checks.stale(bed.time_s + 31)[0, COLUMN["HR"]]


def test_a_row_that_is_forgotten_knows_nothing(bed: Bedside) -> None:
    bed.checks.forget(0)
    assert not bed.send(HR=0).asystole[0]
    assert np.isnan(bed.checks.shown(bed.time_s)).all()
