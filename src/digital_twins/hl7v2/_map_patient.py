"""PID, PV1 and MRG as Patient and Encounter (v2-to-FHIR segment maps)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._errors import missing
from digital_twins.hl7v2._values import (
    V2,
    SiteMapping,
    addresses,
    concepts,
    condition,
    filled,
    identifiers,
    moment,
    names,
    person,
    telecoms,
    text_of,
    urn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.hl7v2._message import Message, Segment

# table 0001 to administrative-gender; A, N and U have no code of their own there
_GENDER = {"F": "female", "M": "male", "O": "other", "A": "other", "N": "other", "U": "unknown"}
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CLASS = {
    "E": ("EMER", "emergency"),
    "I": ("IMP", "inpatient encounter"),
    "O": ("AMB", "ambulatory"),
    "P": ("PRENC", "pre-admission"),
}
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_MARITAL = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
_MARITAL_CODES = frozenset("ACDILMPSTUW")


def put(kind: str, identifier: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    """Return an entry that updates the resource with an identifier, or creates it."""
    return {
        "fullUrl": urn(kind, identifier["system"], identifier["value"]),
        "resource": resource,
        "request": {"method": "PUT", "url": f"{kind}?{condition(identifier)}"},
    }


def keep(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry so that it creates the resource only where there is none yet."""
    kind, _, query = entry["request"]["url"].partition("?")
    return {**entry, "request": {"method": "POST", "url": kind, "ifNoneExist": query}}


def patient(message: Message, pid: Segment | None, how: SiteMapping) -> dict[str, Any]:
    """Return the entry of the Patient of a PID; its first identifier (PID-3) names it."""
    found = identifiers(pid, 3, how, facility=message["MSH-4"])
    if pid is None or not found:
        raise missing("PID", 3, "patient identifiers")
    died = moment(pid.value(29), how, place=("PID", 29))
    marital = text_of(pid.value(16)).upper()
    resource = {
        "resourceType": "Patient",
        **filled(
            identifier=found,
            active=True,
            name=names(pid, 5),
            telecom=telecoms(pid, 13, use="home") + telecoms(pid, 14, use="work"),
            gender=_GENDER.get(text_of(pid.value(8)).upper()),
            birthDate=moment(pid.value(7), how, date_only=True, place=("PID", 7)),
            address=addresses(pid, 11),
            maritalStatus={"coding": [{"system": _MARITAL, "code": marital}]}
            if marital in _MARITAL_CODES
            else {},
            deceasedDateTime=died,
            deceasedBoolean=True if pid.value(30) == "Y" and not died else None,
        ),
    }
    return put("Patient", found[0], resource)


def encounter(
    message: Message,
    pv1: Segment | None,
    how: SiteMapping,
    *,
    patient_url: str,
    event: str = "",
    pid: Segment | None = None,
) -> dict[str, Any] | None:
    """Return the entry of the Encounter of a PV1, None without a visit number.

    The visit number is PV1-19, else the account number PID-18. Events that speak of a visit need one.
    """
    facility = message["MSH-4"]
    found = identifiers(pv1, 19, how, facility=facility) or identifiers(
        pid or message.segment("PID"), 18, how, facility=facility
    )
    if pv1 is None or not found:
        if event in {"", "A08", "A31"}:
            return None
        raise missing("PV1", 19, "visit number")
    kind = text_of(pv1.value(2)).upper()
    start, end = (moment(pv1.value(n), how, place=("PV1", n)) for n in (44, 45))
    resource = {
        "resourceType": "Encounter",
        "status": _status(event, kind, ended=bool(end)),
        "class": _class(kind),
        **filled(
            identifier=found,
            subject={"reference": patient_url},
            participant=_participants(pv1),
            period=filled(start=start, end=end),
            serviceType=next(iter(concepts(pv1, 10, how)), None),
            location=_location(pv1),
        ),
    }
    return put("Encounter", found[0], resource)


def _status(event: str, kind: str, *, ended: bool) -> str:
    if event == "A11":
        return "cancelled"
    if event == "A03" or (ended and event != "A13"):
        return "finished"
    return "planned" if kind == "P" else "in-progress"


def _class(kind: str) -> dict[str, str]:
    known = _CLASS.get(kind)
    if known is not None:
        return {"system": _ACT_CODE, "code": known[0], "display": known[1]}
    return {"system": f"{V2}0004", "code": kind or "U"}


def _participants(pv1: Segment) -> list[dict[str, Any]]:
    found = []
    for number, code in ((7, "ATND"), (8, "REF"), (9, "CON"), (17, "ADM")):
        individual = person(pv1, number)
        if individual:
            coding = {"system": _PARTICIPATION, "code": code}
            found.append({"type": [{"coding": [coding]}], "individual": individual})
    return found


def _location(pv1: Segment) -> list[dict[str, Any]]:
    """Return where the patient is (PV1-3: point of care, room, bed, facility)."""
    parts = [text_of(pv1.value(3, n)) for n in range(1, 5)]
    shown = " ".join(part for part in parts if part)
    return [{"location": {"type": "Location", "display": shown}, "status": "active"}] if shown else []


def merged(message: Message, how: SiteMapping) -> Iterator[dict[str, Any]]:
    """Yield the entries of A40: each PID survives, the identifiers of its MRG-1 are replaced by it."""
    pid: Segment | None = None
    seen = False
    for segment in message.lines:
        if segment.name == "PID":
            pid = segment
        elif segment.name == "MRG":
            seen = True
            yield from _merge(message, pid, segment, how)
    if not seen:
        raise missing("MRG", 1, "identifiers of the patient that was merged")


def merged_patients(message: Message) -> list[tuple[str, str]]:
    """Return (PatientID that went, PatientID that survives) of an ADT A40, first identifiers only.

    Pairs of one identifier with itself, and those that lack one, are left out.
    """
    pairs: list[tuple[str, str]] = []
    surviving = ""
    for segment in message.lines:
        if segment.name == "PID":
            surviving = text_of(segment.value(3, 1))
        elif segment.name == "MRG":
            prior = text_of(segment.value(1, 1))
            if prior and surviving and prior != surviving:
                pairs.append((prior, surviving))
    return pairs


def _merge(message: Message, pid: Segment | None, mrg: Segment, how: SiteMapping) -> Iterator[dict[str, Any]]:
    survivor = patient(message, pid, how)
    prior = identifiers(mrg, 1, how, facility=message["MSH-4"])
    if not prior:
        raise missing("MRG", 1, "identifiers of the patient that was merged")
    links = []
    for identifier in prior:
        gone = {
            "resourceType": "Patient",
            **filled(identifier=[identifier], active=False, name=names(mrg, 7)),
            "link": [{"other": {"reference": survivor["fullUrl"]}, "type": "replaced-by"}],
        }
        entry = put("Patient", identifier, gone)
        if entry["fullUrl"] != survivor["fullUrl"]:
            links.append({"other": {"reference": entry["fullUrl"]}, "type": "replaces"})
            yield entry
    if links:
        survivor["resource"]["link"] = links
    yield survivor
