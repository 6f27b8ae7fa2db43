"""OBR and OBX of ORU R01 as DiagnosticReport and Observation (v2-to-FHIR segment maps)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import missing, wrong
from digital_twins.hl7v2._map_patient import encounter, keep, patient, put
from digital_twins.hl7v2._values import (
    V2,
    SiteMapping,
    code_system,
    concept,
    concepts,
    entity,
    filled,
    moment,
    text_of,
    urn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.hl7v2._message import Message, Segment

# tables 0123 and 0085 to the FHIR status codes, from memory of the v2-to-FHIR guide [verify]
_REPORT_STATUS = {
    **dict.fromkeys("OIS", "registered"),
    "A": "partial",
    "R": "preliminary",
    "P": "preliminary",
    "C": "corrected",
    "M": "corrected",
    "F": "final",
    "X": "cancelled",
    **dict.fromkeys("YZ", "unknown"),
}
_STATUS = {
    **dict.fromkeys("IO", "registered"),
    **dict.fromkeys("PRS", "preliminary"),
    **dict.fromkeys("FUVB", "final"),
    "C": "corrected",
    "X": "cancelled",
    **dict.fromkeys("DW", "entered-in-error"),
    "N": "unknown",
}
_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_UNITS = "http://unitsofmeasure.org"
_TEXT = {"ST", "TX", "FT", "IS", "ID", "SI"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_RANGE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*-\s*(-?\d+(?:\.\d+)?)\s*", re.ASCII)
_MIME = {
    "PDF": "application/pdf",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "RTF": "application/rtf",
    "HTML": "text/html",
    "XML": "application/xml",
}


def results(message: Message, group: Sequence[Segment], how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of one patient's results: patient, visit, observations, reports."""
    person, visit = subjects(message, group, how)
    yield person
    if visit is not None:
        yield visit
    common = filled(
        subject={"reference": person["fullUrl"]},
        encounter={"reference": visit["fullUrl"]} if visit is not None else {},
    )
    starts = [n for n, segment in enumerate(group) if segment.name == "OBR"]
    if not starts:
        raise missing("OBR", 4, "observation request")
    for start, stop in zip(starts, [*starts[1:], len(group)], strict=True):
        before = group[start - 1] if start and group[start - 1].name == "ORC" else None
        yield from _report(message, (before, group[start:stop]), how, common)


def subjects(
    message: Message, group: Sequence[Segment], how: SiteMapping
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return patient and visit of results or orders; both are only created where they are unknown."""
    pid = next((each for each in group if each.name == "PID"), None)
    pv1 = next((each for each in group if each.name == "PV1"), None)
    person = keep(patient(message, pid, how))
    visit = encounter(message, pv1, how, patient_url=person["fullUrl"])
    return person, keep(visit) if visit is not None else None


def _report(
    message: Message,
    part: tuple[Segment | None, Sequence[Segment]],
    how: SiteMapping,
    common: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    orc, (obr, *rest) = part
    facility = message["MSH-4"]
    filler = entity(obr, 3, how, facility=facility) or entity(orc, 3, how, facility=facility)
    placer = entity(obr, 2, how, facility=facility) or entity(orc, 2, how, facility=facility)
    if not filler:
        raise missing("OBR", 3, "filler order number")
    codes = concepts(obr, 4, how)
    if not codes:
        raise missing("OBR", 4, "code of the examination")
    taken = filled(
        start=moment(obr.value(7), how, place=("OBR", 7)), end=moment(obr.value(8), how, place=("OBR", 8))
    )
    observations: list[dict[str, Any]] = []
    attachments: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None
    for segment in rest:
        if segment.name == "OBX" and segment.value(2) == "ED":
            attachments.append(_attachment(segment))
        elif segment.name == "OBX":
            last = _observation(segment, how, common, (filler, taken.get("start", ""), len(observations)))
            observations.append(last)
        elif segment.name == "NTE" and last is not None and text_of(segment.value(3)):
            last["resource"].setdefault("note", []).append({"text": _lines(segment, 3)})
    yield from observations
    category = text_of(obr.value(24))
    resource = {
        "resourceType": "DiagnosticReport",
        "status": _REPORT_STATUS.get(obr.value(25), "unknown"),
        "code": codes[0],
        **common,
        **filled(
            identifier=[
                {"type": {"coding": [{"system": f"{V2}0203", "code": code}]}, **found}
                for code, found in (("FILL", filler), ("PLAC", placer))
                if found
            ],
            category=[{"coding": [{"system": f"{V2}0074", "code": category}]}] if category else [],
            effectivePeriod=taken if "end" in taken else {},
            effectiveDateTime=taken.get("start") if "end" not in taken else "",
            issued=_instant(moment(obr.value(22), how, place=("OBR", 22))),
            result=[{"reference": each["fullUrl"]} for each in observations],
            presentedForm=attachments,
        ),
    }
    yield put("DiagnosticReport", filler, resource)


def _observation(
    obx: Segment, how: SiteMapping, common: dict[str, Any], within: tuple[dict[str, str], str, int]
) -> dict[str, Any]:
    """Return the entry of an OBX; `within` is the filler number, its time, and how many came before."""
    filler, taken, _ = within
    codes = concepts(obx, 3, how)
    if not codes:
        raise missing("OBX", 3, "code of the observation")
    own = entity(obx, 21, how, facility="")
    # OBX has no identifier of its own before v2.6: code and sub-id name it within its report
    named = urn("OBX", filler["system"], filler["value"], obx.value(3), obx.value(3, 3), obx.value(4))
    identifier = own or {"system": "urn:ietf:rfc:3986", "value": named}
    flags = [" ".join(each[0][0].split()) for each in obx.repetitions(8) if text_of(each[0][0])]
    resource = {
        "resourceType": "Observation",
        "status": _STATUS.get(obx.value(11), "unknown"),
        "code": codes[0],
        **common,
        **filled(
            identifier=[identifier],
            effectiveDateTime=moment(obx.value(14), how, place=("OBX", 14)) or taken,
            **_value(obx, how),
            interpretation=[{"coding": [{"system": _INTERPRETATION, "code": flag}]} for flag in flags],
            referenceRange=_reference_range(obx, how),
            method=next(iter(concepts(obx, 17, how)), None),
        ),
    }
    return put("Observation", identifier, resource)


def _value(obx: Segment, how: SiteMapping) -> dict[str, Any]:
    """Return OBX-5 under the name that FHIR gives a value of its type (OBX-2)."""
    kind, raw = obx.value(2), text_of(obx.value(5))
    if kind == "SN":
        return _structured(obx, how)
    if not raw:
        return _coded(obx, how) if kind in {"CE", "CWE", "CNE", "CF"} else {}
    if kind == "NM":
        return {"valueQuantity": {"value": number(raw), **_unit(obx, how)}}
    if kind in _TEXT:
        return {"valueString": _lines(obx, 5)}
    if kind in {"CE", "CWE", "CNE", "CF"}:
        return _coded(obx, how)
    if kind in {"DT", "TS", "DTM"}:
        return {"valueDateTime": moment(raw, how, place=("OBX", 5))}
    if kind == "TM":
        return {"valueTime": _clock(raw)}
    raise wrong("OBX", 2, "names a type of value that is not mapped", code="103")


def _coded(obx: Segment, how: SiteMapping) -> dict[str, Any]:
    found = [each for part in obx.repetitions(5) if (each := concept(part, how))]
    return {"valueCodeableConcept": found[0]} if found else {}


def _structured(obx: Segment, how: SiteMapping) -> dict[str, Any]:
    """Return an SN: a number with a comparator, a range, or a ratio."""
    comparator, first, separator, second = (text_of(obx.value(5, n)) for n in range(1, 5))
    unit = _unit(obx, how)
    if not first:
        return {}
    if second and separator == "-":
        low, high = ({"value": number(each), **unit} for each in (first, second))
        return {"valueRange": {"low": low, "high": high}}
    if second and separator in {":", "/"}:
        return {
            "valueRatio": {"numerator": {"value": number(first)}, "denominator": {"value": number(second)}}
        }
    if second or separator:
        return {"valueString": f"{comparator}{first}{separator}{second}"}
    known = comparator if comparator in {"<", "<=", ">", ">="} else ""
    return {"valueQuantity": {"value": number(first), **filled(comparator=known), **unit}}


def number(text: str) -> int | float:
    """Return an NM as a number; a decimal place that it has not is not added.

    Raises
    ------
    HL7Error
        It is none.
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise wrong("OBX", 5, "is no number although OBX-2 says so")
    return int(text) if re.fullmatch(r"[+-]?\d{1,15}", text) else float(text)


def _unit(obx: Segment, how: SiteMapping) -> dict[str, Any]:
    code, shown, system = (text_of(obx.value(6, n)) for n in range(1, 4))
    uri = code_system(system, how)
    coded = {"system": uri, "code": " ".join(code.split())} if code and uri else {}
    return filled(unit=shown or code, **coded)


def _reference_range(obx: Segment, how: SiteMapping) -> list[dict[str, Any]]:
    text = text_of(obx.value(7))
    if not text:
        return []
    found: dict[str, Any] = {"text": text}
    if match := _RANGE.fullmatch(text):
        unit = _unit(obx, how)
        found |= {n: {"value": number(match[i]), **unit} for i, n in ((1, "low"), (2, "high"))}
    return [found]


def _lines(segment: Segment, field: int) -> str:
    return "\n".join(each[0][0] for each in segment.repetitions(field))


def _clock(raw: str) -> str:
    match = re.fullmatch(r"([01]\d|2[0-3])([0-5]\d)([0-5]\d)?(\.\d+)?([+-]\d{4})?", raw, re.ASCII)
    if match is None:
        raise wrong("OBX", 5, "is no time of day although OBX-2 says so")
    return f"{match[1]}:{match[2]}:{match[3] or '00'}"


def _instant(text: str) -> str:
    """Return a dateTime where FHIR wants an instant: only one with a time will do."""
    return text if "T" in text else ""


def _attachment(obx: Segment) -> dict[str, Any]:
    subtype, encoding, data = (text_of(obx.value(5, n)) for n in (3, 4, 5))
    if encoding != "Base64" or not re.fullmatch(r"[0-9A-Za-z+/=\s]{4,}", data):
        raise wrong("OBX", 5, "holds a document that is not in Base64")
    mime = _MIME.get(subtype.upper(), "application/octet-stream")
    return filled(contentType=mime, data="".join(data.split()), title=text_of(obx.value(3, 2)))
