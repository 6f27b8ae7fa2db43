"""Values of v2 data types as FHIR data types (v2-to-FHIR data type maps)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from digital_twins.hl7v2._errors import wrong

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.hl7v2._message import Segment

V2 = "http://terminology.hl7.org/CodeSystem/v2-"
_TIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_CODE_SYSTEMS = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "SNM": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9": "http://hl7.org/fhir/sid/icd-9-cm",
    "C4": "http://www.ama-assn.org/go/cpt",
    "CVX": "http://hl7.org/fhir/sid/cvx",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "NDC": "http://hl7.org/fhir/sid/ndc",
}
_NAME_USE = {"L": "official", "D": "usual", "M": "maiden", "N": "nickname", "S": "anonymous", "C": "old"}
_ADDRESS_USE = {"H": "home", "B": "work", "O": "work", "C": "temp", "BA": "old"}
_TELECOM_SYSTEM = {
    "PH": "phone",
    "CP": "phone",
    "FX": "fax",
    "BP": "pager",
    "Internet": "email",
    "X.400": "email",
}
_TELECOM_USE = {"PRN": "home", "ORN": "home", "VHN": "home", "WPN": "work", "PRS": "mobile"}


@dataclass(frozen=True, slots=True)
class SiteMapping:
    """How a site's messages become FHIR.

    Attributes
    ----------
    systems
        Assigning authority or local coding system (namespace) to URI, e.g. ``{"HOSP": "urn:oid:1.2.3"}``.
    zone
        Zone of times that carry none.
    base
        Begin of the URI of a namespace that `systems` lacks.
    """

    systems: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC
    base: str = "urn:digital-twins:hl7v2"


def filled(**elements: Any) -> dict[str, Any]:
    """Return the elements that have a value; FHIR has no empty ones."""
    return {name.rstrip("_"): value for name, value in elements.items() if value not in (None, "", [], {})}


def text_of(value: str) -> str:
    """Return a value; HL7's null (two quotes) and blanks are none."""
    return "" if value == '""' or value.isspace() else value


def moment(
    value: str, how: SiteMapping, *, date_only: bool = False, place: tuple[str, int] = ("MSH", 7)
) -> str:
    """Return a v2 time (DT, DTM, TS) as FHIR date or dateTime, empty for none.

    Raises
    ------
    HL7Error
        It is no time.
    """
    value = text_of(value)
    if not value:
        return ""
    match = _TIME.fullmatch(value)
    if match is None:
        raise wrong(*place, "is no time of the form YYYYMMDDHHMMSS+ZZZZ")
    year, month, day, hour, minute, second, offset = match.groups()
    try:
        point = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0),
            tzinfo=how.zone,
        )  # fmt: skip
    except ValueError:
        raise wrong(*place, "is no time of the calendar") from None
    if hour is None or date_only:
        return "-".join(part for part in (year, month, day) if part)
    if offset:
        return f"{point.replace(tzinfo=None).isoformat()}{offset[:3]}:{offset[3:]}"  # %Y pads no year
    return point.isoformat()


def instant(value: str, how: SiteMapping, *, place: tuple[str, int]) -> datetime | None:
    """Return a v2 time that names at least an hour as an aware time; None for none, or a day only.

    Raises
    ------
    HL7Error
        It is no time.
    """
    shown = moment(value, how, place=place)
    if len(shown) <= 10:
        return None
    when = datetime.fromisoformat(shown)
    return when if when.tzinfo is not None else when.replace(tzinfo=how.zone)


def system_of(namespace: str, how: SiteMapping, *, identifier: str = "", kind: str = "") -> str:
    """Return the URI of an assigning authority (HD)."""
    if namespace in how.systems:
        return how.systems[namespace]
    if kind == "ISO" and re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", identifier):
        return f"urn:oid:{identifier}"
    if kind == "URI" and identifier and not re.search(r"\s", identifier):
        return identifier
    if kind == "UUID" and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", identifier):
        return f"urn:uuid:{identifier.lower()}"
    return f"{how.base}:{quote(namespace or identifier or 'unnamed', safe='')}"


def identifiers(
    segment: Segment | None, number: int, how: SiteMapping, *, facility: str = ""
) -> list[dict[str, Any]]:
    """Return CX repetitions as Identifiers; one without an authority is of the sending facility."""
    found = []
    for repetition in segment.repetitions(number) if segment is not None else []:
        value = text_of(_at(repetition, 1))
        if not value:
            continue
        namespace = _at(repetition, 4) or ("" if _at(repetition, 4, 2) else facility)
        system = system_of(namespace, how, identifier=_at(repetition, 4, 2), kind=_at(repetition, 4, 3))
        kind = _at(repetition, 5)
        type_ = {"coding": [{"system": f"{V2}0203", "code": kind}]} if kind and " " not in kind else None
        found.append(filled(type_=type_, system=system, value=value))
    return found


def entity(segment: Segment | None, number: int, how: SiteMapping, *, facility: str) -> dict[str, Any]:
    """Return an EI (order number) as an Identifier, empty for none."""
    if segment is None or not text_of(segment.value(number)):
        return {}
    namespace = segment.value(number, 2) or ("" if segment.value(number, 3) else facility)
    system = system_of(namespace, how, identifier=segment.value(number, 3), kind=segment.value(number, 4))
    return {"system": system, "value": segment.value(number)}


def concepts(segment: Segment | None, number: int, how: SiteMapping) -> list[dict[str, Any]]:
    """Return CE or CWE repetitions as CodeableConcepts."""
    return [
        found
        for each in (segment.repetitions(number) if segment is not None else [])
        if (found := concept(each, how))
    ]


def concept(parts: Sequence[Sequence[str]], how: SiteMapping) -> dict[str, Any]:
    """Return one CE or CWE as CodeableConcept, empty for none."""
    codings = []
    for first in (1, 4):
        code, shown, system = (text_of(_at(parts, first + n)) for n in range(3))
        if code:
            codings.append(
                filled(system=code_system(system, how), code=" ".join(code.split()), display=shown)
            )
    text = text_of(_at(parts, 9)) or text_of(_at(parts, 2))
    return filled(coding=codings, text=text)


def code_system(name: str, how: SiteMapping) -> str:
    """Return the URI of a coding system of table 0396, or of the site."""
    if not name:
        return ""
    if name in how.systems:
        return how.systems[name]
    if name in _CODE_SYSTEMS:
        return _CODE_SYSTEMS[name]
    if re.fullmatch(r"HL7\d{4}", name):
        return V2 + name[3:]
    return f"{how.base}:{quote(name, safe='')}"


def names(segment: Segment, number: int) -> list[dict[str, Any]]:
    """Return XPN repetitions as HumanNames."""
    found = []
    for each in segment.repetitions(number):
        family, given, more, suffix, prefix = (text_of(_at(each, n)) for n in range(1, 6))
        name = filled(
            family=family,
            given=[part for part in (given, *more.split()) if part],
            prefix=[prefix] if prefix else [],
            suffix=[suffix] if suffix else [],
        )
        if name:
            found.append({**filled(use=_NAME_USE.get(_at(each, 7))), **name})
    return found


def addresses(segment: Segment, number: int) -> list[dict[str, Any]]:
    """Return XAD repetitions as Addresses."""
    found = []
    for each in segment.repetitions(number):
        parts = [text_of(_at(each, n)) for n in range(1, 8)]
        address = filled(
            line=[part for part in parts[:2] if part],
            city=parts[2],
            state=parts[3],
            postalCode=parts[4],
            country=parts[5],
        )
        if address:
            found.append({**filled(use=_ADDRESS_USE.get(parts[6])), **address})
    return found


def telecoms(segment: Segment, number: int, *, use: str) -> list[dict[str, Any]]:
    """Return XTN repetitions as ContactPoints."""
    found = []
    for each in segment.repetitions(number):
        kind = _at(each, 3)
        mail = text_of(_at(each, 4))
        value = (
            (mail if kind in {"Internet", "X.400"} else "") or text_of(_at(each, 1)) or text_of(_at(each, 12))
        )
        if not value:
            value = "".join(part for part in (_at(each, 5), _at(each, 6), _at(each, 7)) if text_of(part))
        if value:
            use_ = "mobile" if kind == "CP" else _TELECOM_USE.get(_at(each, 2), use)
            system = "email" if value == mail else _TELECOM_SYSTEM.get(kind, "phone")
            found.append({"system": system, "value": value, "use": use_})
    return found


def person(segment: Segment | None, number: int) -> dict[str, Any]:
    """Return an XCN as a Reference with a name to show, empty for none."""
    if segment is None:
        return {}
    found = [text_of(segment.value(number, n)) for n in (6, 3, 2)]
    shown = " ".join(part for part in found if part)
    return {"display": shown} if shown else {}


def urn(*parts: str) -> str:
    """Return a ``urn:uuid`` that follows from the parts."""
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, chr(31).join(parts))}"


def condition(identifier: Mapping[str, str]) -> str:
    """Return ``identifier=system|value`` as a search, escaped for FHIR and for the address."""
    escaped = [re.sub(r"([\\,|$])", r"\\\1", identifier[name]) for name in ("system", "value")]
    return "identifier=" + "|".join(quote(part, safe="") for part in escaped)


def _at(parts: Sequence[Sequence[str]], component: int, subcomponent: int = 1) -> str:
    if component > len(parts) or subcomponent > len(parts[component - 1]):
        return ""
    return parts[component - 1][subcomponent - 1]
