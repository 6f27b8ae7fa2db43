"""Treatments of a record: what was administered, and what is ordered."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._facts import all_text, effective, extensions, moment, quantity, source, text_of
from digital_twins.records import DrugDose, parse_treatment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from digital_twins.records import Treatment

_STOPPED = {"entered-in-error", "cancelled", "not-done", "revoked", "stopped", "unknown"}
_RADIATION = re.compile(
    r"radi(o|ation)[\s-]?(therapy|otherapy)?|teletherapy|brachytherapy|stereotactic|\bSBRT\b|\bIMRT\b",
    re.IGNORECASE,
)
_PER_AREA = {"mg/m2", "mg/m^2", "mg/m²", "mg/m*2"}
_MG = {"mg": 1.0, "g": 1000.0, "ug": 0.001}
_DAYS = {"d": 1.0, "wk": 7.0, "mo": 30.4375, "h": 1 / 24, "a": 365.25}
_WEEKLY = {1: "weekly", 5: "weekdays", 7: "daily", 10: "twice_daily"}
_TO_GY = {"Gy": 1.0, "cGy": 0.01}


@dataclass(frozen=True, slots=True)
class TreatmentFacts:
    """Treatments that could be read, and a note for each resource that could not."""

    given: tuple[Treatment, ...]
    planned: tuple[Treatment, ...]
    notes: tuple[str, ...]


def _drug(resource: Mapping[str, Any], medications: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the words for the drug: the concept, or the Medication that is referenced or contained."""
    concept = resource.get("medicationCodeableConcept")
    reference = resource.get("medicationReference")
    if concept is None and isinstance(reference, dict):
        target = str(reference.get("reference", ""))
        contained = {f"#{c.get('id')}": c for c in resource.get("contained", ()) if isinstance(c, dict)}
        medication = contained.get(target) or medications.get(target)
        concept = medication.get("code") if medication else {"text": reference.get("display", "")}
    return " ".join(dict.fromkeys(filter(None, (text_of(concept), all_text(concept)))))


def _known_drug(words: str) -> str:
    """Return the generic name that occurs in the words ("cisplatin 50 MG Injection").

    Raises
    ------
    InputError
        No word of it is a drug that is known here.
    """
    from digital_twins.records import canonical_drug

    for word in re.findall(r"[A-Za-z][\w-]+|5-FU", words):
        try:
            return canonical_drug(word)
        except InputError:
            continue
    return canonical_drug(words)


def _dose_keys(value: Any) -> dict[str, float]:
    """Return ``dose_mg`` or ``dose_mg_m2`` of a dose Quantity."""
    found = quantity(value)
    if found is None:
        return {}
    if found[1] in _PER_AREA:
        return {"dose_mg_m2": found[0]}
    if found[1] in _MG:
        return {"dose_mg": found[0] * _MG[found[1]]}
    raise InputError(
        "A drug dose has a unit that is not understood.",
        "Milligrams or mg/m2 are expected.",
        "Correct the unit.",
    )


def _repeat_keys(timing: Any) -> dict[str, Any]:
    """Return schedule and cycles of a FHIR Timing (``repeat``: period, count, bounds)."""
    repeat = timing.get("repeat", {}) if isinstance(timing, dict) else {}
    period, unit = repeat.get("period"), repeat.get("periodUnit")
    if not period or unit not in _DAYS:
        return {}
    days = float(period) * _DAYS[unit] / float(repeat.get("frequency") or 1)
    every = max(round(days), 1)
    keys: dict[str, Any] = {"schedule": "twice_daily" if days <= 0.5 else f"every_{every}_days"}
    if repeat.get("count"):
        return {**keys, "cycles": int(repeat["count"])}
    bound = quantity(repeat.get("boundsDuration"))
    start, end = (moment(repeat.get("boundsPeriod", {}).get(k)) for k in ("start", "end"))
    if bound and bound[1] in _DAYS:
        return {**keys, "duration_days": bound[0] * _DAYS[bound[1]]}
    if start and end:
        return {**keys, "duration_days": max((end - start).total_seconds() / 86400, 1.0)}
    return {}


def _order(resource: Mapping[str, Any], words: str, area_m2: float | None) -> Treatment:
    """Return the treatment of a MedicationRequest."""
    instructions = [i for i in resource.get("dosageInstruction", ()) if isinstance(i, dict)]
    first = instructions[0] if instructions else {}
    rates = [r for r in first.get("doseAndRate", ()) if isinstance(r, dict)]
    dose = _dose_keys(rates[0].get("doseQuantity")) if rates else {}
    given = {"drug": _known_drug(words), **dose, **_repeat_keys(first.get("timing"))}
    events = [m for m in map(moment, first.get("timing", {}).get("event", ())) if m]
    start = (events[0] if events else None) or moment(
        first.get("timing", {}).get("repeat", {}).get("boundsPeriod", {}).get("start")
    )
    if len(events) > 1:
        given["days"] = [(event - events[0]).total_seconds() / 86400 for event in events]
    repeat = first.get("timing", {}).get("repeat", {})
    if repeat.get("duration") and repeat.get("durationUnit") in {"h", "min"}:
        given["infusion_hours"] = float(repeat["duration"]) / (
            60.0 if repeat["durationUnit"] == "min" else 1.0
        )
    treatment = parse_treatment(given, body_surface_area_m2=area_m2)
    return replace(treatment, start=start, source=source(resource))


def _spoken_number(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _radiation_keys(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return total dose, fractions and technique from the extensions of a radiotherapy order or course.

    Read are mCODE's names (``totalDoseDelivered``, ``fractionsDelivered``, ``totalDosePrescribed``,
    ``fractionsPrescribed``, ...technique) and any extension with such a name; centigray become gray.
    """
    keys: dict[str, Any] = {}
    for name, value in extensions(resource):
        spoken = _spoken_number(name)
        amount = quantity(value)
        if amount and amount[1] in _TO_GY:
            field = "dose_per_fraction_gy" if "fraction" in spoken else "total_dose_gy"
            keys.setdefault(field, amount[0] * _TO_GY[amount[1]])
        elif "fractionsperweek" in spoken:
            schedule = _WEEKLY.get(value)
            if schedule:
                keys.setdefault("schedule", schedule)
        elif "fraction" in spoken and isinstance(value, int) and not isinstance(value, bool):
            keys.setdefault("fractions", value)
        elif spoken.endswith("technique"):
            words = text_of(value) if isinstance(value, dict) else str(value)
            keys.setdefault("technique", words)
    return keys


def _is_radiation(resource: Mapping[str, Any]) -> bool:
    words = " ".join(
        [all_text(resource.get("code")), *(all_text(c) for c in _as_list(resource.get("category")))]
    )
    return _RADIATION.search(words) is not None or "totalDose" in str(list(extensions(resource)))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _radiation(resource: Mapping[str, Any], stem: str) -> Treatment:
    keys = _radiation_keys(resource)
    repeat = resource.get("occurrenceTiming")
    if "fractions" not in keys and isinstance(repeat, dict) and repeat.get("repeat", {}).get("count"):
        keys["fractions"] = int(repeat["repeat"]["count"])
    start = effective(resource, stem)
    treatment = parse_treatment({"type": "radiation", **keys, "start": start})
    return replace(treatment, source=source(resource))


def _administered(
    doses: Sequence[tuple[datetime, Mapping[str, Any]]], drug: str, area_m2: float | None
) -> Treatment:
    """Return one treatment for all administrations of a drug, in days since the first."""
    ordered = sorted(doses, key=lambda pair: pair[0])
    start = ordered[0][0]
    laid: list[DrugDose] = []
    parts = []
    for when, resource in ordered:
        day = (when - start) / timedelta(days=1)
        one = parse_treatment(
            {"drug": drug, **_dose_keys(resource.get("dosage", {}).get("dose")), "day": day},
            body_surface_area_m2=area_m2,
        )
        parts.append(one)
        end = moment(resource.get("effectivePeriod", {}).get("end"))
        hours = (end - when).total_seconds() / 3600 if end else 0.0
        laid.extend(replace(d, duration_hours=hours) if 0 < hours <= 336 else d for d in one.doses)
    label = parts[0].label if len(parts) == 1 else f"{drug}, {len(parts)} administrations"
    notes = tuple(dict.fromkeys(a for part in parts for a in part.assumptions))
    return replace(
        parts[0], label=label, doses=tuple(laid), start=start, source=source(ordered[0][1]), assumptions=notes
    )


class _Reader:
    def __init__(self, resources: Iterable[Mapping[str, Any]], area_m2: float | None) -> None:
        self.resources = list(resources)
        self.area_m2 = area_m2
        self.medications = {source(r): r for r in self.resources if r.get("resourceType") == "Medication"}
        self.given: list[Treatment] = []
        self.planned: list[Treatment] = []
        self.notes: list[str] = []

    def attempt(self, resource: Mapping[str, Any], into: list[Treatment], make: Any) -> None:
        try:
            into.append(make())
        except InputError as error:
            self.notes.append(f"{source(resource)}: {error.what} {error.why}")

    def administrations(self) -> None:
        groups: dict[str, list[tuple[datetime, Mapping[str, Any]]]] = {}
        for resource in self.resources:
            if (
                resource.get("resourceType") != "MedicationAdministration"
                or resource.get("status") in _STOPPED
            ):
                continue
            when = effective(resource)
            try:
                drug = _known_drug(_drug(resource, self.medications))
            except InputError as error:
                self.notes.append(f"{source(resource)}: {error.what}")
                continue
            if when is None:
                self.notes.append(f"{source(resource)}: the administration has no time.")
                continue
            groups.setdefault(drug, []).append((when, resource))
        for drug, doses in groups.items():
            self.attempt(doses[0][1], self.given, lambda d=doses, n=drug: _administered(d, n, self.area_m2))

    def others(self) -> None:
        for resource in self.resources:
            kind, status = resource.get("resourceType"), resource.get("status")
            if status in _STOPPED:
                continue
            if kind == "MedicationRequest" and resource.get("intent") != "option":
                words = _drug(resource, self.medications)
                if status in {"active", "draft", "on-hold"}:
                    self.attempt(
                        resource, self.planned, lambda r=resource, w=words: _order(r, w, self.area_m2)
                    )
            elif kind == "ServiceRequest" and _is_radiation(resource):
                self.attempt(resource, self.planned, lambda r=resource: _radiation(r, "occurrence"))
            elif kind == "Procedure" and status in {"completed", "in-progress"} and _is_radiation(resource):
                self.attempt(resource, self.given, lambda r=resource: _radiation(r, "performed"))


def read_treatments(
    resources: Iterable[Mapping[str, Any]], *, body_surface_area_m2: float | None = None
) -> TreatmentFacts:
    """Return the treatments of a record.

    Parameters
    ----------
    resources
        Resources of one patient: MedicationAdministration and completed radiotherapy Procedure become
        treatments given; active MedicationRequest and radiotherapy ServiceRequest become treatments planned.
    body_surface_area_m2
        For doses per square metre.
    """
    reader = _Reader(resources, body_surface_area_m2)
    reader.administrations()
    reader.others()
    return TreatmentFacts(tuple(reader.given), tuple(reader.planned), tuple(reader.notes))
