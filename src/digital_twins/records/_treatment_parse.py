"""The treatment dictionaries that users write, validated into :class:`Treatment`."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from digital_twins._errors import InputError
from digital_twins.records._treatment import DrugDose, Fraction, Treatment
from digital_twins.records._treatment_drugs import DRUG_KINDS, canonical_drug
from digital_twins.records._treatment_fields import (
    explicit_days,
    number,
    required,
    start_day,
    weekday,
    whole,
)
from digital_twins.records._treatment_keys import kind_of, refuse_unknown_keys
from digital_twins.records._treatment_radiation import days_needed, gaps, parse_effect, spread_over_day
from digital_twins.records._treatment_schedule import MAX_ADMINISTRATIONS, schedule_days

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.records._treatment import TreatmentKind

DEFAULT_BODY_SURFACE_AREA_M2 = 1.8
"""Body surface assumed when it is not known: adult average, Sacco et al., PLoS ONE 2010;5:e8933 gives
1.79 m2 (1.71 women, 1.91 men) over 3,613 cancer patients; the assumption is recorded in the treatment."""


def _dose_mg(
    given: Mapping[str, Any], drug: str, body_surface_area_m2: float | None
) -> tuple[float, str, list[str]]:
    """Return milligrams per administration, the dose in words, and what was assumed."""
    absolute, per_area, auc = (number(given, k) for k in ("dose_mg", "dose_mg_m2", "dose_auc"))
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
    gfr = required(number(given, "gfr_ml_min", largest=300.0), "gfr_ml_min", "carboplatin AUC")
    return cast("float", auc) * (gfr + 25.0), f"AUC {auc:g}", []


def _drug_days(given: Mapping[str, Any]) -> tuple[list[float], str, list[str]]:
    """Return days, the schedule in words, and what was assumed."""
    explicit = explicit_days(given)
    if explicit is not None:
        return explicit, f"on {len(explicit)} days" if len(explicit) > 1 else f"day {explicit[0]:g}", []
    start = start_day(given)
    schedule = given.get("schedule")
    cycles, duration = whole(given, "cycles"), number(given, "duration_days", largest=1e5)
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
    begins = weekday(given)
    notes = []
    if begins is None and str(schedule).strip().lower() == "weekdays":
        notes.append("start weekday not known: Monday assumed")
    count = cycles if cycles is not None else min(2 * int(duration or 0) + 1, MAX_ADMINISTRATIONS // 31)
    offsets = schedule_days(schedule, count, start_weekday=begins or 0)
    if duration is not None:
        while offsets and offsets[-1] < duration and count < MAX_ADMINISTRATIONS:
            count = min(4 * count, MAX_ADMINISTRATIONS)
            offsets = schedule_days(schedule, count, start_weekday=begins or 0)
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
    hours = number(given, "infusion_hours", largest=24.0 * 14) or 0.0
    return {
        "label": f"{drug} {dose_words} {schedule_words}",
        "drug": drug,
        "doses": tuple(DrugDose(day=d, dose_mg=dose, duration_hours=hours) for d in days),
        "assumptions": (*notes, *more),
    }


def _fraction_doses(given: Mapping[str, Any]) -> tuple[int, float]:
    """Return the number of fractions and the gray of each."""
    total = number(given, "total_dose_gy", largest=500.0)
    each = number(given, "dose_per_fraction_gy", largest=100.0)
    count = whole(given, "fractions")
    if count is None and given.get("days") is not None and hasattr(given["days"], "__len__"):
        count = len(given["days"]) * int(number(given, "fractions_per_day", largest=4.0) or 1)
    if count is None and total is not None and each is not None:
        count = round(total / each)
    if count is None:
        required(None, "fractions", "radiation")
    n = max(cast("int", count), 1)
    if each is None:
        each = required(total, "total_dose_gy", "radiation") / n
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
    breaks = gaps(given, number)
    days = explicit_days(given)
    if days is not None:
        if breaks:
            raise InputError(
                "A treatment has both 'days' and 'gap_days'.",
                "'days' lays every fraction out, so a gap could contradict it.",
                "Remove 'gap_days' or 'days'.",
            )
        return spread_over_day(days, max(count, len(days)), given, number), notes
    begins = weekday(given)
    schedule = given.get("schedule", "weekdays")
    word = str(schedule).strip().lower()
    if "schedule" not in given:
        notes.append("schedule not given: one fraction each Monday to Friday assumed")
    if begins is None and word in ("weekdays", "bid", "twice_daily"):
        notes.append("start weekday not known: Monday assumed")
    if word in ("bid", "twice_daily") and "fractions_per_day" in given:
        raise InputError(
            "A treatment has both 'fractions_per_day' and a twice-daily schedule.",
            "One of them says how many fractions a day has.",
            "Use 'schedule': 'weekdays' with 'fractions_per_day'.",
        )
    start = start_day(given)
    laid = schedule_days(schedule, needed + 7 * len(breaks), start_weekday=begins or 0, radiation=True)
    kept = [start + day for day in laid if int(day) not in breaks][:needed]
    return spread_over_day(kept, count, given, number), notes


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
        "radiation": parse_effect(given, number),
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
    day = start_day(given)
    margin = given.get("margin_mm")
    if margin is not None and margin != 0:
        margin = number(given, "margin_mm", largest=500.0)
    extent = number(given, "extent_of_resection", largest=1.0)
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
    number({"body_surface_area_m2": body_surface_area_m2}, "body_surface_area_m2", largest=5.0)
    kind = kind_of(given)
    refuse_unknown_keys(given, kind)
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
