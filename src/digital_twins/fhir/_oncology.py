"""Cancer facts of a record: conditions, stage and biomarkers, in base R4, US Core and mCODE shapes.

Codes: mCODE 4.0.0 (STU4) and LOINC 21908-9, 21902-2 (stage group), 48018-6 (gene studied).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._facts import (
    all_text,
    code_of,
    codings,
    effective,
    has_code,
    moment,
    profiles,
    quantity,
    source,
    text_of,
)
from digital_twins.records import Condition, Fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

STAGE_GROUP = frozenset({"21908-9", "21902-2", "21914-7", "399537006", "399588009", "399390009"})
"""LOINC and SNOMED CT codes of stage group observations (clinical, pathologic, other)."""

_GENE_STUDIED = frozenset({"48018-6"})
_HGVS = frozenset({"48004-6", "48005-3"})
_STAGE = re.compile(
    r"(?:\bstage\b[\s:]*|^\s*)(0|IV|I{1,3}|[1-4])\s*([A-D]\d?)?(?![A-Za-z0-9])", re.IGNORECASE
)
_ARABIC = {"1": "I", "2": "II", "3": "III", "4": "IV"}
_CANCER = re.compile(
    r"\b(cancer|carcinoma|malignan\w*|neoplasm|sarcoma|glioma|glioblastoma|astrocytoma|melanoma|lymphoma"
    r"|leuk\w+|myeloma|mesothelioma|blastoma|tumou?r)\b",
    re.IGNORECASE,
)
_SECONDARY = re.compile(r"\b(secondary|metasta\w+)\b", re.IGNORECASE)
_NOT_CANCER = re.compile(r"\b(benign|suspected|history of|family history|screening)\b", re.IGNORECASE)
_ICD10_PRIMARY = re.compile(r"C(?!7[789])\d\d|D4[0-8]")
_UNTRUE = {"refuted", "entered-in-error"}
_MARKERS = (
    "EGFR", "ALK", "ROS1", "KRAS", "NRAS", "BRAF", "HER2", "ERBB2", "MET", "RET", "NTRK", "PD-L1", "TP53",
    "PTEN", "PIK3CA",
    "BRCA1", "BRCA2", "IDH1", "IDH2", "IDH", "MGMT", "1p/19q", "TERT", "ATRX", "Ki-67", "MSI", "TMB",
    "CEA", "PSA", "CA 19-9", "CA 125", "AFP", "STK11", "KEAP1", "Estrogen receptor", "Progesterone receptor",
)  # fmt: skip
_MARKER = re.compile(r"(?<![\w-])(" + "|".join(re.escape(m) for m in _MARKERS) + r")(?![\w])", re.IGNORECASE)
_CANONICAL = {m.upper(): m for m in _MARKERS} | {
    "ERBB2": "HER2",
    "ESTROGEN RECEPTOR": "ER",
    "PROGESTERONE RECEPTOR": "PR",
}
_CODED_MARKERS = {"MSI": frozenset({"81695-9"}), "TMB": frozenset({"94076-7"})}
"""LOINC codes of markers that Genomics Reporting examples send without a display."""

_RESULTS = {
    **dict.fromkeys(("present", "detected", "positive"), "positive"),
    **dict.fromkeys(("absent", "not detected", "negative"), "negative"),
}
_MARKER_PROFILES = ("tumor-marker", "genomic-variant", "molecular-biomarker", "genomics")


def stage_text(words: str) -> str | None:
    """Return a stage group such as ``"IIIA"`` from words such as ``"AJCC stage IIIA"``; or None."""
    match = _STAGE.search(words)
    if match is None:
        return None
    roman = match[1].upper()
    return _ARABIC.get(roman, roman) + (match[2] or "").upper()


def _condition_stage(condition: Mapping[str, Any]) -> str | None:
    for stage in condition.get("stage", ()):
        summary = stage.get("summary") if isinstance(stage, dict) else None
        words = [summary.get("text", "")] if isinstance(summary, dict) else []
        words += [str(c.get("display") or c.get("code") or "") for c in codings(summary)]
        for text in words:
            if found := stage_text(str(text)):
                return found
        if words and any(words):
            return str(next(w for w in words if w))
    return None


def cancer_rank(condition: Mapping[str, Any]) -> int:
    """Return 0 for a primary cancer by profile, 1 by code or words, 2 for a metastasis, else 3."""
    stated, words = profiles(condition), all_text(condition.get("code"))
    if "secondary-cancer-condition" in stated:
        return 2
    if "primary-cancer-condition" in stated:
        return 0
    if any(
        _ICD10_PRIMARY.match(str(c.get("code", "")))
        for c in codings(condition.get("code"))
        if "icd-10" in str(c.get("system"))
    ):
        return 1
    if _CANCER.search(words) and not _NOT_CANCER.search(words):
        return 2 if _SECONDARY.search(words) else 1
    return 3


def _is_true(condition: Mapping[str, Any]) -> bool:
    return not any(c.get("code") in _UNTRUE for c in codings(condition.get("verificationStatus")))


def _onset(condition: Mapping[str, Any]) -> datetime | None:
    return effective(condition, "onset") or moment(condition.get("recordedDate"))


def read_conditions(resources: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """Return the conditions, primary cancers first, those refuted or entered in error left out."""
    found = [r for r in resources if r.get("resourceType") == "Condition" and _is_true(r)]
    found.sort(key=cancer_rank)
    read = []
    for resource in found:
        onset = _onset(resource)
        sites = resource.get("bodySite") or [None]
        read.append(
            Condition(
                code=code_of(resource.get("code")),
                text=text_of(resource.get("code")),
                source=source(resource),
                stage=_condition_stage(resource),
                onset=onset.date() if onset else None,
                body_site=code_of(sites[0]) if codings(sites[0]) else None,
            )
        )
    return read


@dataclass(frozen=True, slots=True)
class StageFact:
    """A stage group that an Observation states; ``focus`` is the Condition it speaks of, if it says so."""

    stage: str
    source: str
    focus: str | None
    effective: datetime | None


def read_stages(resources: Iterable[Mapping[str, Any]]) -> list[StageFact]:
    """Return the stage group observations, the latest first."""
    found = []
    for resource in resources:
        if resource.get("resourceType") != "Observation" or resource.get("status") in {
            "entered-in-error",
            "cancelled",
        }:
            continue
        if not has_code(resource.get("code"), STAGE_GROUP) and "tnm-stage-group" not in profiles(resource):
            continue
        concept = resource.get("valueCodeableConcept") or {"text": resource.get("valueString", "")}
        words = [text_of(concept), *(str(c.get("display") or c.get("code") or "") for c in codings(concept))]
        stage = next((s for s in map(stage_text, words) if s), None)
        stage = stage or next((w for w in words if w), None)
        if stage:
            focus = next((f.get("reference") for f in resource.get("focus", ()) if isinstance(f, dict)), None)
            found.append(StageFact(stage, source(resource), focus, effective(resource)))
    found.sort(key=lambda fact: fact.effective.timestamp() if fact.effective else 0.0, reverse=True)
    return found


def apply_stages(
    conditions: Sequence[Condition], stages: Sequence[StageFact]
) -> tuple[list[Condition], list[str]]:
    """Return the conditions with the stages of observations filled in, and notes on contradictions.

    A stage without a focus belongs to the first condition. What the Condition itself says is kept.
    """
    result, notes = list(conditions), []
    for fact in stages:
        place = next((n for n, c in enumerate(result) if fact.focus and fact.focus.endswith(c.source)), None)
        if place is None and result and fact.focus is None:
            place = 0
        if place is None:
            notes.append(f"{fact.source}: the stage belongs to a condition that is not in the record.")
        elif result[place].stage is None:
            result[place] = replace(result[place], stage=fact.stage)
        elif result[place].stage != fact.stage:
            kept = result[place]
            notes.append(
                f"{fact.source}: stage {fact.stage} contradicts stage {kept.stage} of {kept.source}."
            )
    return result, notes


def value_text(resource: Mapping[str, Any]) -> str:
    """Return the value of an Observation or component in words, e.g. ``"60%"`` or ``"positive"``."""
    number = quantity(resource.get("valueQuantity"))
    if number:
        unit = number[1] if number[1] != "1" else ""  # UCUM: a bare number
        return f"{number[0]:g} {unit}".strip() if unit != "%" else f"{number[0]:g}%"
    whole = resource.get("valueInteger")
    if isinstance(whole, int) and not isinstance(whole, bool):
        return str(whole)
    words = text_of(resource.get("valueCodeableConcept")) or str(resource.get("valueString", ""))
    words = _RESULTS.get(words.strip().lower(), words)
    if not words and isinstance(resource.get("valueBoolean"), bool):
        words = "positive" if resource["valueBoolean"] else "negative"
    return words


def _components(resource: Mapping[str, Any], codes: frozenset[str]) -> list[str]:
    parts = [c for c in resource.get("component", ()) if isinstance(c, dict)]
    return [value_text(part) for part in parts if has_code(part.get("code"), codes) and value_text(part)]


def _marker_name(words: str) -> str | None:
    match = _MARKER.search(words)
    return _CANONICAL[match[1].upper()] if match else None


def markers_of(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and result of each biomarker or variant that an Observation states; most state none.

    A marker is known by its mCODE or Genomics Reporting profile, by its gene components (a fusion, or genes
    that were all found unaltered, have several), by its LOINC code or by its name in the code.
    """
    code = resource.get("code")
    names = [_marker_name(gene) or gene for gene in _components(resource, _GENE_STUDIED)]
    if not names:
        coded = next((name for name, codes in _CODED_MARKERS.items() if has_code(code, codes)), None)
        known = coded or _marker_name(all_text(code))
        if not known and any(p in profiles(resource) for p in _MARKER_PROFILES):
            known = text_of(code)
        names = [known] if known else []
    value = next(iter(_components(resource, _HGVS)), "") or value_text(resource)
    return [(name, value) for name in dict.fromkeys(names)] if value else []


def changed_results(facts: Iterable[Fact]) -> list[str]:
    """Return notes on biomarkers whose later result differs from an earlier one."""
    seen: dict[str, str] = {}
    notes = []
    markers = [fact for fact in facts if fact.kind == "biomarker"]
    for fact in sorted(markers, key=lambda f: f.effective.timestamp() if f.effective else 0.0):
        if seen.setdefault(fact.name, fact.value) != fact.value:
            notes.append(f"{fact.source}: another result of {fact.name} than before; the later one is used.")
        seen[fact.name] = fact.value
    return notes
