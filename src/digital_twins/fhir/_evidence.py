"""Facts of a record with their source: TNM, biomarkers, variants, pathology, laboratory, notes.

Codes: mCODE 4.0.0 (STU4) value sets of TNM categories, tumour size (LOINC 21889-1), histology (31206-6, NCIt
C18000), performance status (89247-1, 89243-0), disease status (97509-4), genomics report (51969-4); US Core
laboratory results (category ``laboratory``) and notes (DocumentReference, DiagnosticReport).
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._facts import (
    all_text,
    codings,
    effective,
    has_code,
    moment,
    profiles,
    source,
    text_of,
)
from digital_twins.fhir._oncology import markers_of, value_text
from digital_twins.records import Conflict, Fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

_TNM = {
    "cT": frozenset({"21905-5", "399504009"}),
    "pT": frozenset({"21899-0", "384625004"}),
    "T": frozenset({"21911-3", "78873005"}),
    "cN": frozenset({"21906-3", "399534004"}),
    "pN": frozenset({"21900-6", "371494008"}),
    "N": frozenset({"21912-1", "277206009"}),
    "cM": frozenset({"21907-1", "399387003"}),
    "pM": frozenset({"21901-4", "371497001"}),
    "M": frozenset({"21913-9", "277208005"}),
}
_CODED = {
    "performance-status": {"ECOG": frozenset({"89247-1"}), "Karnofsky": frozenset({"89243-0"})},
    "disease-status": {"Cancer disease status": frozenset({"97509-4"})},
    "histology": {"Histologic type": frozenset({"31206-6"}), "Histologic grade": frozenset({"C18000"})},
}
_TUMOUR_SIZE = frozenset({"21889-1"})
_DIMENSIONS = {
    "maximum dimension": frozenset({"33728-7"}),
    "other dimension": frozenset({"33729-5"}),
}
_PATHOLOGY = frozenset({"PAT", "SP", "CP", "LP7839-6", "LP29708-2", "60568-3", "11526-1", "22637-3"})
"""v2-0074 PAT, SP and CP, and LOINC codes of pathology reports [verify the LOINC parts]."""
_UNTRUE = {"entered-in-error", "cancelled"}
_MAX_NOTE_BYTES = 2**20


def read_facts(resources: Sequence[Mapping[str, Any]]) -> list[Fact]:
    """Return what the resources of one patient state, in their order; what is refuted is left out."""
    readers = {
        "Observation": _observation,
        "DiagnosticReport": _report,
        "DocumentReference": _document,
        "Condition": _condition,
    }
    found: list[Fact] = []
    for resource in resources:
        reader = readers.get(str(resource.get("resourceType")))
        if reader is not None and resource.get("status") not in _UNTRUE:
            found.extend(reader(resource))
    return found


def find_conflicts(facts: Iterable[Fact]) -> list[Conflict]:
    """Return where single-valued facts contradict each other on their latest day, or without any date.

    TNM categories, biomarkers, histology and performance status have one value at a time: on different
    days the later one counts, on one day two values are a contradiction.
    """
    groups: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        if fact.kind in {"tnm", "biomarker", "histology", "performance-status"}:
            groups.setdefault((fact.kind, fact.name), []).append(fact)
    found = []
    for (kind, name), group in groups.items():
        rivals = _latest_day(group)
        if len({fact.value.casefold() for fact in rivals}) > 1:
            found.append(Conflict(kind, name, tuple(rivals)))
    return found


def _latest_day(group: Sequence[Fact]) -> list[Fact]:
    """Return the facts of the latest day; one without a date may be of any day and counts too."""
    days = [fact.effective.date() for fact in group if fact.effective is not None]
    last = max(days, default=None)
    return [f for f in group if f.effective is None or f.effective.date() == last]


def settled(facts: Iterable[Fact], kind: str, conflicts: Iterable[Conflict]) -> dict[str, str]:
    """Return the latest value of each fact of a kind; a name in conflict has none."""
    disputed = {conflict.name for conflict in conflicts if conflict.kind == kind}
    dated = sorted((f for f in facts if f.kind == kind), key=_moment)
    return {fact.name: fact.value for fact in dated if fact.name not in disputed}


def _moment(fact: Fact) -> float:
    return fact.effective.timestamp() if fact.effective else 0.0


def _observation(resource: Mapping[str, Any]) -> Iterator[Fact]:
    code, when, where = resource.get("code"), effective(resource), source(resource)
    value = value_text(resource)
    for name, codes in _TNM.items():
        if has_code(code, codes) and value:
            yield Fact("tnm", name, value, where, when)
            return
    for kind, names in _CODED.items():
        for name, codes in names.items():
            if has_code(code, codes) and value:
                yield Fact(kind, name, value, where, when)
                return
    if has_code(code, _TUMOUR_SIZE):
        yield from _sizes(resource, when, where)
        return
    variant = "genomic-variant" in profiles(resource)
    for marker in markers_of(resource):
        yield Fact("biomarker", *marker, where, when)
        if variant:
            yield Fact("variant", *marker, where, when)
    if (
        value
        and not variant
        and any(has_code(c, frozenset({"laboratory"})) for c in resource.get("category", ()))
    ):
        yield Fact("lab", text_of(code), value, where, when)


def _sizes(resource: Mapping[str, Any], when: datetime | None, where: str) -> Iterator[Fact]:
    for part in resource.get("component", ()):
        for name, codes in _DIMENSIONS.items():
            if isinstance(part, dict) and has_code(part.get("code"), codes) and value_text(part):
                yield Fact("tumour-size", name, value_text(part), where, when)


def _condition(resource: Mapping[str, Any]) -> Iterator[Fact]:
    refuted = {c.get("code") for c in codings(resource.get("verificationStatus"))}
    if refuted & {"refuted", "entered-in-error"}:
        return
    when = effective(resource, "onset") or moment(resource.get("recordedDate"))
    yield Fact(
        "diagnosis", text_of(resource.get("code")), text_of(resource.get("code")), source(resource), when
    )
    for extension in resource.get("extension", ()):
        value = extension.get("valueCodeableConcept") if isinstance(extension, dict) else None
        if value and "histology-morphology-behavior" in str(extension.get("url")):
            yield Fact("histology", "Histologic type", text_of(value), source(resource), when)


def _report(resource: Mapping[str, Any]) -> Iterator[Fact]:
    when, where = effective(resource), source(resource)
    concepts = [resource.get("code"), *resource.get("category", ())]
    words = " ".join(all_text(concept) for concept in concepts).lower()
    pathology = any(has_code(c, _PATHOLOGY) for c in concepts) or "patholog" in words
    kind = "pathology" if pathology else "note"
    name = text_of(resource.get("code"))
    text = str(resource.get("conclusion") or "")
    coded = [text_of(concept) for concept in resource.get("conclusionCode", ())]
    value = "; ".join(part for part in [text, *coded] if part) or _attached(resource.get("presentedForm", ()))
    if value:
        yield Fact(kind, name, value, where, when)


def _document(resource: Mapping[str, Any]) -> Iterator[Fact]:
    forms = [c.get("attachment") for c in resource.get("content", ()) if isinstance(c, dict)]
    text = _attached(forms) or str(resource.get("description") or "")
    if text:
        name = text_of(resource.get("type")) or "Note"
        yield Fact("note", name, text, source(resource), moment(resource.get("date")))


def _attached(forms: Iterable[Any]) -> str:
    """Return the text of the first attachment that carries some inline; links are not followed."""
    for form in forms:
        kind = str(form.get("contentType", "")) if isinstance(form, dict) else ""
        data = form.get("data") if isinstance(form, dict) else None
        if not kind.startswith("text/plain") or not isinstance(data, str) or len(data) > 2 * _MAX_NOTE_BYTES:
            continue
        try:
            return base64.b64decode(data, validate=True)[:_MAX_NOTE_BYTES].decode("utf-8", "replace").strip()
        except binascii.Error:
            continue
    return ""
