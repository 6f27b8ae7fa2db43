"""Whatever is handed in as a treatment is either laid out sanely or refused with what, why and fix."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings, strategies as st

from digital_twins import InputError
from digital_twins.records import DRUG_KINDS, Treatment, parse_treatment

WORDS = st.sampled_from(
    [
        *DRUG_KINDS,
        "chemotherapy",
        "radiation",
        "surgery",
        "every_3_weeks",
        "days 1,8 of 21",
        "days -5 of 21",
        "days 1-9999999999 of 3",
        "every_99999999999_weeks",
        "q0d",
        "weekdays",
        "bid",
        "monday",
    ]
)
NUMBERS = st.one_of(st.integers(-5, 400), st.floats(allow_nan=True, allow_infinity=True, width=32))
VALUES: st.SearchStrategy[Any] = st.one_of(
    WORDS, NUMBERS, st.text(max_size=12), st.none(), st.booleans(), st.lists(NUMBERS, max_size=4)
)
KEYS = st.sampled_from(
    [
        "type",
        "drug",
        "dose_mg",
        "dose_mg_m2",
        "dose_auc",
        "gfr_ml_min",
        "day",
        "days",
        "schedule",
        "cycles",
        "duration_days",
        "infusion_hours",
        "start_weekday",
        "total_dose_gy",
        "dose_per_fraction_gy",
        "fractions",
        "margin_mm",
        "typo",
    ]
)
SKELETONS = st.sampled_from(
    [
        {},
        {"drug": "cisplatin", "dose_mg": 75},
        {"drug": "paclitaxel", "dose_mg_m2": 175, "schedule": "every_3_weeks", "cycles": 6},
        {"type": "radiation", "total_dose_gy": 60, "fractions": 30},
    ]
)


def _sane(treatment: Treatment) -> bool:
    days = [d.day for d in treatment.doses] + [f.day for f in treatment.fractions]
    return (
        len(days) <= 5000
        and all(math.isfinite(day) and day >= 0 for day in days)
        and all(d.dose_mg > 0 and d.duration_hours >= 0 for d in treatment.doses)
        and all(f.dose_gy > 0 for f in treatment.fractions)
        and bool(treatment.label)
    )


@given(SKELETONS, st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=400, deadline=None)
def test_every_dictionary_is_laid_out_or_refused(skeleton: dict[str, Any], change: dict[str, Any]) -> None:
    try:
        treatment = parse_treatment({**skeleton, **change})
    except InputError as refusal:
        told = refusal.to_dict()
        complete = bool(told["what"] and told["why"] and told["fix"])
    else:
        complete = _sane(treatment)
    assert complete
