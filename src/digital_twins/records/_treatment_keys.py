"""Which kinds of treatment there are, and the keys that a dictionary of each may have."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, cast

from digital_twins._errors import InputError
from digital_twins.records._treatment_drugs import DRUG_KINDS, canonical_drug
from digital_twins.records._treatment_radiation import COURSE_KEYS, EFFECT_KEYS, MAP_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.records._treatment import TreatmentKind

_COMMON = {"type", "label", "start", "source"}
_DRUG_KEYS = _COMMON | {
    "drug",
    "dose_mg",
    "dose_mg_m2",
    "dose_auc",
    "gfr_ml_min",
    "day",
    "start_day",
    "days",
    "schedule",
    "cycles",
    "duration_days",
    "infusion_hours",
    "start_weekday",
}
_RADIATION_KEYS = _COMMON | {
    "total_dose_gy",
    "dose_per_fraction_gy",
    "fractions",
    "technique",
    "schedule",
    "day",
    "start_day",
    "days",
    "start_weekday",
    *EFFECT_KEYS,
    *COURSE_KEYS,
    *MAP_KEYS,
}
_SURGERY_KEYS = _COMMON | {
    "day",
    "start_day",
    "procedure",
    "technique",
    "margin_mm",
    "extent_of_resection",
    "resection_mask",
}
_KEYS: dict[str, set[str]] = {
    "chemotherapy": _DRUG_KEYS,
    "targeted": _DRUG_KEYS,
    "immunotherapy": _DRUG_KEYS,
    "radiation": _RADIATION_KEYS,
    "surgery": _SURGERY_KEYS,
    "observation": _COMMON,
}
_TYPE_ALIASES = {
    "chemo": "chemotherapy",
    "radiotherapy": "radiation",
    "radiation_therapy": "radiation",
    "rt": "radiation",
    "targeted_therapy": "targeted",
    "watchful_waiting": "observation",
    "none": "observation",
}


def kind_of(given: Mapping[str, Any]) -> TreatmentKind:
    named = given.get("type")
    if named is None:
        if "drug" in given:
            return DRUG_KINDS[canonical_drug(given["drug"])]
        if "total_dose_gy" in given or "dose_per_fraction_gy" in given:
            return "radiation"
        raise InputError(
            "The treatment has no 'type'.",
            "Neither a drug nor a radiation dose says what it is.",
            f"Add 'type': one of {', '.join(_KEYS)}.",
        )
    key = str(named).strip().lower().replace(" ", "_").replace("-", "_")
    key = _TYPE_ALIASES.get(key, key)
    if key not in _KEYS:
        near = difflib.get_close_matches(key, [*_KEYS, *_TYPE_ALIASES], n=2)
        hint = "chemoradiation is a list of two treatments. " if key.startswith("chemorad") else ""
        hint += f"Did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"The treatment type '{named}' is not known.",
            "A treatment is one modality; combinations are lists of treatments.",
            f"{hint}Types: {', '.join(_KEYS)}.",
        )
    return cast("TreatmentKind", key)


def refuse_unknown_keys(given: Mapping[str, Any], kind: str) -> None:
    for key in given:
        if key not in _KEYS[kind]:
            near = difflib.get_close_matches(str(key), sorted(_KEYS[kind]), n=2)
            hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
            raise InputError(
                f"The key '{key}' is not part of a {kind} treatment.",
                "A misspelt key that was ignored would silently change the treatment.",
                f"{hint}Keys: {', '.join(sorted(_KEYS[kind]))}.",
            )
