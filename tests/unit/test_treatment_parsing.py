"""Treatment dictionaries: those of the seeds, schedules, and what must be refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from digital_twins import InputError
from digital_twins.records import DRUG_KINDS, Treatment, canonical_drug, parse_history, parse_treatment

RADIATION = {"type": "radiation", "total_dose_gy": 60, "fractions": 30, "technique": "IMRT"}
CHEMOTHERAPY = {
    "type": "chemotherapy",
    "drug": "paclitaxel",
    "dose_mg_m2": 175,
    "schedule": "every_3_weeks",
    "cycles": 6,
}


def test_seed_history_entry() -> None:
    (treatment,) = parse_history([{"drug": "cisplatin", "dose_mg": 75, "day": 0}])
    assert treatment.kind == "chemotherapy"
    assert [(d.day, d.dose_mg) for d in treatment.doses] == [(0.0, 75.0)]
    assert treatment.assumptions == ()


def test_seed_chemotherapy() -> None:
    treatment = parse_treatment(CHEMOTHERAPY)
    assert [d.day for d in treatment.doses] == [0, 21, 42, 63, 84, 105]
    assert treatment.doses[0].dose_mg == pytest.approx(315.0)
    assert "1.8 m2 assumed" in treatment.assumptions[0]
    assert treatment.label == "paclitaxel 175 mg/m2 every 3 weeks x6"
    assert treatment.as_given == CHEMOTHERAPY
    known = parse_treatment(CHEMOTHERAPY, body_surface_area_m2=2.0)
    assert known.doses[0].dose_mg == pytest.approx(350.0)
    assert known.assumptions == ()


def test_seed_radiation() -> None:
    treatment = parse_treatment(RADIATION)
    days = [f.day for f in treatment.fractions]
    assert days[:6] == [0, 1, 2, 3, 4, 7]
    assert len(days) == 30
    assert days[-1] == 39
    assert treatment.total_dose_gy == pytest.approx(60.0)
    assert treatment.technique == "IMRT"
    assert any("Monday" in a for a in treatment.assumptions)


@pytest.mark.parametrize(
    ("schedule", "cycles", "days"),
    [
        ("every_2_weeks", 3, [0, 14, 28]),
        ("every 21 days", 2, [0, 21]),
        ("q3w", 2, [0, 21]),
        ("Every-3-Weeks", 2, [0, 21]),
        ("Q21D", 2, [0, 21]),
        ("weekly", 3, [0, 7, 14]),
        ("daily", 4, [0, 1, 2, 3]),
        ("weekdays", 6, [0, 1, 2, 3, 4, 7]),
        ("days 1,8 of 21", 2, [0, 7, 21, 28]),
        ("days_1_8_of_21", 2, [0, 7, 21, 28]),
        ("days 1-5 of 28", 2, [0, 1, 2, 3, 4, 28, 29, 30, 31, 32]),
        ("twice_daily", 3, [0, 0.5, 1.0]),
    ],
)
def test_schedules(schedule: str, cycles: int, days: list[float]) -> None:
    given = {"drug": "gemcitabine", "dose_mg": 1000, "schedule": schedule, "cycles": cycles, "start_day": 10}
    assert [d.day - 10 for d in parse_treatment(given).doses] == days


def test_duration_in_days_bounds_a_repeated_treatment() -> None:
    stupp = {"drug": "temozolomide", "dose_mg_m2": 75, "schedule": "daily", "duration_days": 42}
    assert len(parse_treatment(stupp).doses) == 42
    long = {"drug": "erlotinib", "dose_mg": 150, "schedule": "daily", "duration_days": 400}
    assert len(parse_treatment(long).doses) == 400


def test_twice_daily_radiation_keeps_weekends_free() -> None:
    given = {"type": "radiation", "total_dose_gy": 45, "fractions": 30, "schedule": "twice_daily", "day": 7}
    days = [f.day for f in parse_treatment(given).fractions]
    assert days[:3] == [7.0, 7.25, 8.0]
    assert days[10] == 14.0
    assert len(days) == 30


def test_start_weekday_and_wall_clock_start() -> None:
    thursday = parse_treatment({**RADIATION, "start_weekday": "Thursday"})
    assert [f.day for f in thursday.fractions[:3]] == [0, 1, 4]
    start = datetime(2026, 1, 2, 9, tzinfo=UTC)  # a Friday
    assert [f.day for f in parse_treatment({**RADIATION, "start": start}).fractions[:2]] == [0, 3]


def test_explicit_fraction_days_and_dose_per_fraction() -> None:
    given = {"type": "radiation", "dose_per_fraction_gy": 18, "days": [3, 5, 7]}
    treatment = parse_treatment(given)
    assert [(f.day, f.dose_gy) for f in treatment.fractions] == [(3, 18), (5, 18), (7, 18)]


def test_carboplatin_to_a_target_auc() -> None:
    given = {"drug": "carboplatin", "dose_auc": 5, "gfr_ml_min": 95}
    assert parse_treatment(given).doses[0].dose_mg == pytest.approx(600.0)


def test_other_kinds_are_data() -> None:
    assert parse_treatment({"type": "surgery", "day": 12, "margin_mm": 10}).first_day == 12
    assert parse_treatment({"type": "observation"}).label == "observation"
    assert parse_treatment({"drug": "Keytruda", "dose_mg": 200}).kind == "immunotherapy"
    assert parse_treatment({"drug": "5-FU", "dose_mg": 700}).drug == "fluorouracil"
    assert {canonical_drug(name.upper()) for name in DRUG_KINDS} == set(DRUG_KINDS)


def test_history_before_baseline() -> None:
    earlier = {"drug": "cisplatin", "dose_mg": 75, "day": -3}
    assert parse_history(earlier)[0].doses[0].day == -3
    with pytest.raises(InputError, match="baseline"):
        parse_treatment(earlier)
    treatment = parse_history([earlier])[0]
    assert isinstance(treatment, Treatment)
    with pytest.raises(InputError, match="baseline"):
        parse_treatment(treatment)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dose_mg_m2": -175}, "greater than zero"),
        ({"dose_mg_m2": 0}, "greater than zero"),
        ({"dose_mg_m2": math.nan}, "finite"),
        ({"dose_mg_m2": True}, "not a number"),
        ({"dose_mg_m2": "175"}, "not a number"),
        ({"drug": "paclitaxol"}, "paclitaxel"),
        ({"drug": ""}, "not a name"),
        ({"drug": "erlotinib"}, "targeted"),
        ({"schedule": "now and then"}, "not known"),
        ({"schedule": "every_0_weeks"}, "not known"),
        ({"schedule": "days 8,30 of 21"}, "not known"),
        ({"schedule": 3}, "not known"),
        ({"schedule": None}, "no schedule"),
        ({"cycles": 0}, "greater than zero"),
        ({"cycles": 2.5}, "whole number"),
        ({"cycles": None}, "open end"),
        ({"cycle": 6}, "Did you mean 'cycles'"),
        ({"dose_mg": 100}, "exactly once"),
        ({"dose_mg_m2": None}, "exactly once"),
        ({"dose_mg_m2": None, "dose_auc": 5}, "carboplatin"),
        ({"day": 1, "start_day": 2}, "both"),
        ({"day": -1}, "baseline"),
        ({"type": "chemoradiation"}, "list of two"),
        ({"type": "chemoterapy"}, "Did you mean chemotherapy"),
        ({"days": [0, 21]}, "both 'days'"),
        ({"start": "2026-01-01"}, "timezone"),
        ({"infusion_hours": -3}, "greater than zero"),
        ({"cycles": 4000, "schedule": "days 1-5 of 28"}, "administrations"),
    ],
)
def test_refused_drug_treatments(change: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        parse_treatment({**CHEMOTHERAPY, **change})
    assert caught.value.what
    assert caught.value.why
    assert caught.value.fix


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"total_dose_gy": -60}, "greater than zero"),
        ({"fractions": 0}, "greater than zero"),
        ({"fractions": -3}, "greater than zero"),
        ({"fractions": None}, "fractions"),
        ({"dose_per_fraction_gy": 3}, "contradict"),
        ({"total_dose_gy": None}, "total_dose_gy"),
        ({"days": [1, 2]}, "2 days for 30"),
        ({"start_weekday": "someday"}, "day of the week"),
        ({"dose_gy": 60}, "Did you mean"),
        ({"drug": "cisplatin"}, "not part of a radiation"),
    ],
)
def test_refused_radiation(change: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse_treatment({**RADIATION, **change})


def test_refused_shapes() -> None:
    with pytest.raises(InputError, match="not a dictionary"):
        parse_treatment(["cisplatin"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no 'type'"):
        parse_treatment({"label": "?"})
    with pytest.raises(InputError, match="body_surface_area_m2"):
        parse_treatment(CHEMOTHERAPY, body_surface_area_m2=-1.0)
    with pytest.raises(InputError, match="margin_mm"):
        parse_treatment({"type": "surgery", "margin_mm": -3})
