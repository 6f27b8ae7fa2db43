"""The treatment dictionaries that users write, validated into :class:`Treatment`."""

from __future__ import annotations

import difflib
import math
from datetime import datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

from digital_twins._errors import InputError
from digital_twins.records._treatment import DrugDose, Fraction, Treatment
from digital_twins.records._treatment_drugs import DRUG_KINDS, canonical_drug
from digital_twins.records._treatment_radiation import (
    COURSE_KEYS,
    EFFECT_KEYS,
    MAP_KEYS,
    days_needed,
    gaps,
    parse_effect,
    spread_over_day,
)
from digital_twins.records._treatment_schedule import MAX_ADMINISTRATIONS, WEEKDAYS, schedule_days

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.records._treatment import TreatmentKind

DEFAULT_BODY_SURFACE_AREA_M2 = 1.8
"""Body surface assumed when it is not known: adult average, Sacco et al., PLoS ONE 2010;5:e8933 gives
1.79 m2 (1.71 women, 1.91 men) over 3,613 cancer patients; the assumption is recorded in the treatment."""

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


def _number(
    given: Mapping[str, Any], key: str, *, positive: bool = True, largest: float = 1e6
) -> float | None:
    """Return the finite number under ``key``, or None where it is absent."""
    value = given.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(
            f"'{key}' of a treatment is not a number.",
            f"It is {value!r}; a dose, day or count must be a finite number.",
            f"Give '{key}' as a plain number.",
        )
    if (positive and value <= 0) or abs(float(value)) > largest:
        limit = f"greater than zero and at most {largest:g}" if positive else f"within +-{largest:g}"
        raise InputError(f"'{key}' of a treatment is {value:g}.", f"It must be {limit}.", f"Correct '{key}'.")
    return float(value)


def _whole(given: Mapping[str, Any], key: str) -> int | None:
    value = _number(given, key, largest=MAX_ADMINISTRATIONS)
    if value is not None and value != int(value):
        raise InputError(
            f"'{key}' of a treatment is {value:g}.",
            "It counts, so it is a whole number.",
            f"Correct '{key}'.",
        )
    return None if value is None else int(value)


def _required(value: float | None, key: str, kind: str) -> float:
    if value is None:
        raise InputError(
            f"A {kind} treatment lacks '{key}'.",
            "Without it the protocol is not determined, and nothing is assumed in its place.",
            f"Add '{key}'.",
        )
    return value


def _kind_of(given: Mapping[str, Any]) -> TreatmentKind:
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


def _refuse_unknown_keys(given: Mapping[str, Any], kind: str) -> None:
    for key in given:
        if key not in _KEYS[kind]:
            near = difflib.get_close_matches(str(key), sorted(_KEYS[kind]), n=2)
            hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
            raise InputError(
                f"The key '{key}' is not part of a {kind} treatment.",
                "A misspelt key that was ignored would silently change the treatment.",
                f"{hint}Keys: {', '.join(sorted(_KEYS[kind]))}.",
            )


def _start_day(given: Mapping[str, Any]) -> float:
    if "day" in given and "start_day" in given:
        raise InputError(
            "A treatment has both 'day' and 'start_day'.", "They mean the same.", "Keep one of them."
        )
    key = "start_day" if "start_day" in given else "day"
    return _number(given, key, positive=False, largest=1e5) or 0.0


def _weekday(given: Mapping[str, Any]) -> int | None:
    """Return 0 for Monday ... 6, from 'start_weekday' or the wall-clock start, or None when unknown."""
    named = given.get("start_weekday")
    if named is None:
        start = given.get("start")
        return start.weekday() if isinstance(start, datetime) else None
    near = [i for i, day in enumerate(WEEKDAYS) if day.startswith(str(named).strip().lower()[:3])]
    if len(str(named).strip()) < 3 or not near:
        raise InputError(
            f"'start_weekday' is '{named}'.", "It is no day of the week.", "Write 'monday' to 'sunday'."
        )
    return near[0]


def _explicit_days(given: Mapping[str, Any]) -> list[float] | None:
    days = given.get("days")
    if days is None:
        return None
    for rival in ("schedule", "cycles", "duration_days", "day", "start_day"):
        if rival in given:
            raise InputError(
                f"A treatment has both 'days' and '{rival}'.",
                "'days' lays every administration out, so the other could contradict it.",
                f"Remove '{rival}' or 'days'.",
            )
    if isinstance(days, str) or not hasattr(days, "__iter__"):
        days = [days]
    laid = [_number({"days": d}, "days", positive=False, largest=1e5) for d in days]
    values = sorted(d for d in laid if d is not None)
    if not values or len(values) > MAX_ADMINISTRATIONS:
        raise InputError(
            f"'days' of a treatment holds {len(values)} days.",
            f"There must be between 1 and {MAX_ADMINISTRATIONS}.",
            "List the days of the administrations.",
        )
    return values


def _dose_mg(
    given: Mapping[str, Any], drug: str, body_surface_area_m2: float | None
) -> tuple[float, str, list[str]]:
    """Return milligrams per administration, the dose in words, and what was assumed."""
    absolute, per_area, auc = (_number(given, k) for k in ("dose_mg", "dose_mg_m2", "dose_auc"))
    if sum(d is not None for d in (absolute, per_area, auc)) != 1:
        raise InputError(
            f"The dose of {drug} is not given exactly once.",
            "Exactly one of 'dose_mg', 'dose_mg_m2' and 'dose_auc' must be there.",
            "Write e.g. 'dose_mg_m2': 175.",
        )
    if absolute is not None:
        return absolute, f"{absolute:g} mg", []
    if per_area is not None:
        if body_surface_area_m2 is None:
            area = DEFAULT_BODY_SURFACE_AREA_M2
            notes = [f"body surface area not known: {area} m2 assumed"]
        else:
            area, notes = body_surface_area_m2, []
        return per_area * area, f"{per_area:g} mg/m2", notes
    if drug != "carboplatin":
        raise InputError(
            f"'dose_auc' was given for {drug}.",
            "Dosing to a target AUC by renal function (Calvert 1989) belongs to carboplatin.",
            "Use 'dose_mg' or 'dose_mg_m2'.",
        )
    gfr = _required(_number(given, "gfr_ml_min", largest=300.0), "gfr_ml_min", "carboplatin AUC")
    return cast("float", auc) * (gfr + 25.0), f"AUC {auc:g}", []


def _drug_days(given: Mapping[str, Any]) -> tuple[list[float], str, list[str]]:
    """Return days, the schedule in words, and what was assumed."""
    explicit = _explicit_days(given)
    if explicit is not None:
        return explicit, f"on {len(explicit)} days" if len(explicit) > 1 else f"day {explicit[0]:g}", []
    start = _start_day(given)
    schedule = given.get("schedule")
    cycles, duration = _whole(given, "cycles"), _number(given, "duration_days", largest=1e5)
    if schedule is None or schedule == "once":
        if (cycles or 1) != 1 or duration is not None:
            raise InputError(
                "A treatment has several cycles but no schedule.",
                "The days between the cycles are not determined.",
                "Add 'schedule', e.g. 'every_3_weeks'.",
            )
        return [start], f"day {start:g}", []
    if (cycles is None) == (duration is None):
        raise InputError(
            "The length of a repeated treatment is not given exactly once.",
            "Exactly one of 'cycles' and 'duration_days' must be there: an open end cannot be simulated.",
            "Add 'cycles': N (number of repeats) or 'duration_days': D.",
        )
    weekday = _weekday(given)
    notes = []
    if weekday is None and str(schedule).strip().lower() == "weekdays":
        notes.append("start weekday not known: Monday assumed")
    count = cycles if cycles is not None else min(2 * int(duration or 0) + 1, MAX_ADMINISTRATIONS // 31)
    offsets = schedule_days(schedule, count, start_weekday=weekday or 0)
    if duration is not None:
        while offsets and offsets[-1] < duration and count < MAX_ADMINISTRATIONS:
            count = min(4 * count, MAX_ADMINISTRATIONS)
            offsets = schedule_days(schedule, count, start_weekday=weekday or 0)
        offsets = [d for d in offsets if d < duration]
    words = str(schedule).replace("_", " ")
    words += f" x{cycles}" if cycles is not None else f" for {duration:g} days"
    return [start + d for d in offsets], words, notes


def _parse_drug(
    given: Mapping[str, Any], kind: TreatmentKind, body_surface_area_m2: float | None
) -> dict[str, Any]:
    drug = canonical_drug(given.get("drug"))
    if DRUG_KINDS[drug] != kind:
        raise InputError(
            f"The treatment type '{kind}' does not fit {drug}.",
            f"{drug} is a {DRUG_KINDS[drug]} drug, and the two kinds act by different laws.",
            f"Write 'type': '{DRUG_KINDS[drug]}' or leave 'type' out.",
        )
    dose, dose_words, notes = _dose_mg(given, drug, body_surface_area_m2)
    days, schedule_words, more = _drug_days(given)
    hours = _number(given, "infusion_hours", largest=24.0 * 14) or 0.0
    return {
        "label": f"{drug} {dose_words} {schedule_words}",
        "drug": drug,
        "doses": tuple(DrugDose(day=d, dose_mg=dose, duration_hours=hours) for d in days),
        "assumptions": (*notes, *more),
    }


def _fraction_doses(given: Mapping[str, Any]) -> tuple[int, float]:
    """Return the number of fractions and the gray of each."""
    total = _number(given, "total_dose_gy", largest=500.0)
    each = _number(given, "dose_per_fraction_gy", largest=100.0)
    count = _whole(given, "fractions")
    if count is None and given.get("days") is not None and hasattr(given["days"], "__len__"):
        count = len(given["days"]) * int(_number(given, "fractions_per_day", largest=4.0) or 1)
    if count is None and total is not None and each is not None:
        count = round(total / each)
    if count is None:
        _required(None, "fractions", "radiation")
    n = max(cast("int", count), 1)
    if each is None:
        each = _required(total, "total_dose_gy", "radiation") / n
    if total is not None and not math.isclose(n * each, total, rel_tol=1e-6):
        raise InputError(
            "The radiation doses contradict each other.",
            f"{n} fractions of {each:g} Gy make {n * each:g} Gy, not {total:g} Gy.",
            "Give two of 'total_dose_gy', 'fractions' and 'dose_per_fraction_gy'.",
        )
    return n, each


def _radiation_days(given: Mapping[str, Any], count: int) -> tuple[list[float], list[str]]:
    """Return the day of each fraction, and what was assumed."""
    notes: list[str] = []
    needed = days_needed(count, given)
    breaks = gaps(given, _number)
    days = _explicit_days(given)
    if days is not None:
        if breaks:
            raise InputError(
                "A treatment has both 'days' and 'gap_days'.",
                "'days' lays every fraction out, so a gap could contradict it.",
                "Remove 'gap_days' or 'days'.",
            )
        return spread_over_day(days, max(count, len(days)), given, _number), notes
    weekday = _weekday(given)
    schedule = given.get("schedule", "weekdays")
    word = str(schedule).strip().lower()
    if "schedule" not in given:
        notes.append("schedule not given: one fraction each Monday to Friday assumed")
    if weekday is None and word in ("weekdays", "bid", "twice_daily"):
        notes.append("start weekday not known: Monday assumed")
    if word in ("bid", "twice_daily") and "fractions_per_day" in given:
        raise InputError(
            "A treatment has both 'fractions_per_day' and a twice-daily schedule.",
            "One of them says how many fractions a day has.",
            "Use 'schedule': 'weekdays' with 'fractions_per_day'.",
        )
    start = _start_day(given)
    laid = schedule_days(schedule, needed + 7 * len(breaks), start_weekday=weekday or 0, radiation=True)
    kept = [start + day for day in laid if int(day) not in breaks][:needed]
    return spread_over_day(kept, count, given, _number), notes


def _parse_radiation(given: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_unread_map(given)
    count, each = _fraction_doses(given)
    days, notes = _radiation_days(given, count)
    if len(days) != count:
        raise InputError(
            f"'days' holds {len(days)} days for {count} fractions.",
            "Every fraction needs its day (fractional days give two a day).",
            "Give one day for each fraction.",
        )
    technique = given.get("technique")
    words = f"radiation {count * each:g} Gy in {count} fractions"
    return {
        "label": f"{words}, {technique}" if technique else words,
        "fractions": tuple(Fraction(day=d, dose_gy=each) for d in days),
        "technique": None if technique is None else str(technique),
        "assumptions": tuple(notes),
        "radiation": parse_effect(given, _number),
        "dose_map": given.get("dose_map"),
    }


def _refuse_unread_map(given: Mapping[str, Any]) -> None:
    """Refuse a dose map that is a path still: this room reads no images."""
    unread = "dose_map" in given and not hasattr(given["dose_map"], "affine")
    if unread or "plan" in given or "registration" in given:
        raise InputError(
            "The dose map of a treatment has not been read.",
            "A treatment holds the dose of one fraction as a volume, not a file or a plan.",
            "Give the dictionary to the twin or to TreatmentSimulator, which read it.",
        )


def _parse_surgery(given: Mapping[str, Any]) -> dict[str, Any]:
    day = _start_day(given)
    margin = given.get("margin_mm")
    if margin is not None and margin != 0:
        margin = _number(given, "margin_mm", largest=500.0)
    extent = _number(given, "extent_of_resection", largest=1.0)
    ways = [key for key in ("margin_mm", "extent_of_resection", "resection_mask") if key in given]
    if len(ways) > 1:
        raise InputError(
            f"A surgery has both '{ways[0]}' and '{ways[1]}'.",
            "Each says on its own what is taken out.",
            "Keep one of them.",
        )
    what = given.get("procedure") or given.get("technique") or "resection"
    how = {
        "margin_mm": f" with a margin of {margin or 0.0:g} mm",
        "extent_of_resection": f" of {100.0 * (extent or 0.0):g} % of the lesion",
        "resection_mask": " as outlined",
    }
    notes = (
        () if ways else ("extent of the resection not given: the whole visible lesion, no margin, assumed",)
    )
    return {
        "label": f"surgery: {what}{how[ways[0]] if ways else ''}, day {day:g}",
        "technique": str(what),
        "day": day,
        "margin_mm": None if margin is None else float(margin),
        "extent_of_resection": extent,
        "assumptions": notes,
    }


def _refuse_before_baseline(treatment: Treatment) -> Treatment:
    first = treatment.first_day
    if first is not None and first < 0:
        raise InputError(
            f"A treatment starts on day {first:g}.",
            "Days count from the twin's baseline; before it the model has no state to treat.",
            "Use days >= 0, or hand earlier treatments in as treatment history.",
        )
    return treatment


def parse_treatment(
    mapping: Mapping[str, Any] | Treatment,
    *,
    body_surface_area_m2: float | None = None,
    allow_before_baseline: bool = False,
) -> Treatment:
    """Validate a treatment dictionary into a :class:`Treatment` with every administration laid out.

    Parameters
    ----------
    mapping
        E.g. ``{"drug": "cisplatin", "dose_mg": 75, "day": 0}``, ``{"type": "chemotherapy", "drug":
        "paclitaxel", "dose_mg_m2": 175, "schedule": "every_3_weeks", "cycles": 6}`` or ``{"type":
        "radiation", "total_dose_gy": 60, "fractions": 30, "technique": "IMRT"}``. Without ``type`` the
        drug or the dose decides. A :class:`Treatment` passes through.
    body_surface_area_m2
        For doses per square metre; when None, 1.8 m2 is assumed and recorded in ``assumptions``.
    allow_before_baseline
        Whether days before the twin's baseline (negative days) are accepted.

    Raises
    ------
    InputError
        Negative, zero or non-finite dose, unknown drug, type, schedule or key, contradictory doses, open
        ends, a day before baseline where that is not allowed.
    """
    if isinstance(mapping, Treatment):
        return mapping if allow_before_baseline else _refuse_before_baseline(mapping)
    if not hasattr(mapping, "keys"):
        raise InputError(
            "The treatment is not a dictionary.",
            f"It is {type(mapping).__name__}.",
            "Pass e.g. {'type': 'radiation', 'total_dose_gy': 60, 'fractions': 30}.",
        )
    given = {str(k): v for k, v in mapping.items() if v is not None}
    _number({"body_surface_area_m2": body_surface_area_m2}, "body_surface_area_m2", largest=5.0)
    kind = _kind_of(given)
    _refuse_unknown_keys(given, kind)
    start = given.get("start")
    if start is not None and not (isinstance(start, datetime) and start.tzinfo is not None):
        raise InputError(
            "'start' of a treatment is not a timezone-aware datetime.",
            "Wall-clock times without a zone cannot be placed on the timeline.",
            "Pass datetime(..., tzinfo=UTC), or days since baseline in 'day'.",
        )
    fields: dict[str, Any]
    if kind == "radiation":
        fields = _parse_radiation(given)
    elif kind == "surgery":
        fields = _parse_surgery(given)
    elif kind == "observation":
        fields = {"label": "observation"}
    else:
        fields = _parse_drug(given, kind, body_surface_area_m2)
    if given.get("label"):
        fields["label"] = str(given["label"])
    treatment = Treatment(
        kind=kind, start=start, source=given.get("source"), as_given=dict(mapping), **fields
    )
    return treatment if allow_before_baseline else _refuse_before_baseline(treatment)


def parse_history(
    treatments: Iterable[Mapping[str, Any] | Treatment] | Mapping[str, Any] | Treatment,
    *,
    body_surface_area_m2: float | None = None,
    allow_before_baseline: bool = True,
) -> tuple[Treatment, ...]:
    """Validate a treatment history: a list of dictionaries or treatments, or a single one.

    Days before the baseline are accepted by default: what was given then still acts through the drug that
    is left. See :func:`parse_treatment` for the dictionaries and the errors.
    """
    if isinstance(treatments, Treatment) or hasattr(treatments, "keys"):
        items: Sequence[Any] = [treatments]
    else:
        items = list(treatments)
    return tuple(
        parse_treatment(
            item, body_surface_area_m2=body_surface_area_m2, allow_before_baseline=allow_before_baseline
        )
        for item in items
    )
