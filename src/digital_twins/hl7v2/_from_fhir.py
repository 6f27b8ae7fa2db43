"""A DiagnosticReport as ORU R01."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from digital_twins.hl7v2._build import Header, build_message
from digital_twins.hl7v2._errors import HL7Error
from digital_twins.hl7v2._map_results import _MIME
from digital_twins.hl7v2._values import _CODE_SYSTEMS, V2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from digital_twins.hl7v2._message import Message

_SYSTEM_NAMES = {uri: name for name, uri in reversed(_CODE_SYSTEMS.items())}
_REPORT_CODES = {"registered": "I", "partial": "A", "preliminary": "P", "final": "F", "corrected": "C"} | {
    "amended": "C", "appended": "C", "cancelled": "X", "entered-in-error": "X",
}  # fmt: skip
_CODES = {"registered": "I", "preliminary": "P", "final": "F", "amended": "C", "corrected": "C"} | {
    "cancelled": "X", "entered-in-error": "W",
}  # fmt: skip
_GENDERS = {"female": "F", "male": "M", "other": "O", "unknown": "U"}


def oru_of(
    report: Mapping[str, Any],
    *,
    patient: Mapping[str, Any],
    observations: Iterable[Mapping[str, Any]] = (),
    header: Header | None = None,
) -> Message:
    """Return an ORU R01 with the results of a report; `bundle_of` gives their values back.

    Parameters
    ----------
    report
        A FHIR R4 DiagnosticReport with an identifier and a code.
    patient
        The Patient of the report, with an identifier.
    observations
        The Observations of ``report.result``, in the order of the OBX segments.
    header
        Sender and receiver; its kind must be ``"ORU^R01^ORU_R01"``.

    Raises
    ------
    HL7Error
        Report or patient have no identifier, the report no code, or an Observation a value that OBX has no
        type for.
    """
    rows = [("PID", _pid(patient)), ("OBR", _obr(report))]
    count = 0
    for count, each in enumerate(observations, start=1):
        rows.append(("OBX", {"1": str(count), **_obx(each)}))
        rows += [("NTE", {"1": "1", "3": note["text"]}) for note in each.get("note", []) if note.get("text")]
    for form in report.get("presentedForm", []):
        if form.get("data"):
            count += 1
            rows.append(("OBX", {"1": str(count), **_document(form, report)}))
    if report.get("conclusion"):
        count += 1
        conclusion = {
            "2": "TX",
            "3.1": "19005-8",
            "3.2": "Impression",
            "3.3": "LN",
            "5": report["conclusion"],
        }
        rows.append(("OBX", {"1": str(count), **conclusion, "11": _REPORT_CODES.get(report["status"], "F")}))
    return build_message(header or Header("ORU^R01^ORU_R01"), rows)


def _identifier(resource: Mapping[str, Any], code: str = "") -> Mapping[str, Any]:
    found = [each for each in resource.get("identifier", []) if each.get("value")]
    typed = [
        e for e in found if code and code in {c.get("code") for c in e.get("type", {}).get("coding", [])}
    ]
    chosen: Mapping[str, Any] = next(iter(typed or ([] if code == "PLAC" else found)), {})
    if not chosen and code != "PLAC":
        raise HL7Error(
            "The report cannot be sent as HL7 v2.",
            "A resource of it has no identifier.",
            "Give DiagnosticReport and Patient an identifier.",
            code="101",
        )
    return chosen


def _authority(system: str, first: int) -> dict[str, str]:
    """Return a URI as the components of an assigning authority, from component `first` on."""
    if system.startswith("urn:oid:"):
        return {f"{first + 1}": system[8:], f"{first + 2}": "ISO"}
    return {f"{first + 1}": system, f"{first + 2}": "URI"} if system else {}


def _pid(patient: Mapping[str, Any]) -> dict[str, str]:
    identifier = _identifier(patient)
    values = {"1": "1", "3.1": identifier["value"]}
    values |= {f"3.4.{n}": part for n, part in _authority(identifier.get("system", ""), 1).items()}
    kind = next((c["code"] for c in identifier.get("type", {}).get("coding", []) if c.get("code")), "")
    name: dict[str, Any] = next(iter(patient.get("name", [])), {})
    given = name.get("given", [])
    values |= {
        "3.5": kind,
        "5.1": name.get("family", ""),
        "5.2": given[0] if given else "",
        "5.3": " ".join(given[1:]),
        "7": patient.get("birthDate", "").replace("-", ""),
        "8": _GENDERS.get(patient.get("gender", ""), ""),
    }
    return values


def _obr(report: Mapping[str, Any]) -> dict[str, str]:
    values = {"1": "1", "4.1": "", **_concept(report.get("code", {}), "4")}
    if not values["4.1"] and not values.get("4.2"):
        raise HL7Error(
            "The report cannot be sent as HL7 v2.", "It has no code.", "Give it a code.", code="101"
        )
    for number, code in ((2, "PLAC"), (3, "FILL")):
        identifier = _identifier(report, code)
        values |= {f"{number}.1": identifier.get("value", "")}
        values |= {f"{number}.{n}": part for n, part in _authority(identifier.get("system", ""), 2).items()}
    period = report.get("effectivePeriod", {})
    codings = [c for each in report.get("category", []) for c in each.get("coding", [])]
    values |= {
        "7": v2_time(report.get("effectiveDateTime") or period.get("start", "")),
        "8": v2_time(period.get("end", "")),
        "22": v2_time(report.get("issued", "")),
        "24": next((c.get("code", "") for c in codings if c.get("system") == f"{V2}0074"), ""),
        "25": _REPORT_CODES.get(report.get("status", ""), "Z"),
    }
    return values


def _obx(observation: Mapping[str, Any]) -> dict[str, str]:
    kind, value = _typed(observation)
    flags = [
        coding["code"]
        for each in observation.get("interpretation", [])
        for coding in each.get("coding", [])[:1]
        if coding.get("code")
    ]
    limits: dict[str, Any] = next(iter(observation.get("referenceRange", [])), {})
    low, high = (limits.get(name, {}).get("value") for name in ("low", "high"))
    shown = limits.get("text") or (f"{low}-{high}" if low is not None and high is not None else "")
    return {
        "2": kind,
        **_concept(observation.get("code", {}), "3"),
        **value,
        "7": shown,
        **{f"8[{n}]": flag for n, flag in enumerate(flags, start=1)},
        "11": _CODES.get(observation.get("status", ""), "N"),
        "14": v2_time(observation.get("effectiveDateTime", "")),
    }


def _typed(observation: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return OBX-2, and OBX-5 with OBX-6."""
    name = next((each for each in observation if each.startswith("value")), "")
    if not name:
        return "", {}
    value: Any = observation[name]
    found = _TYPED.get(name)
    if found is None:
        raise HL7Error(
            "The report cannot be sent as HL7 v2.",
            "An Observation has a value that OBX has no type for.",
            "Send quantities, ranges, texts, codes and times.",
            code="102",
        )
    return found(value)


def _quantity(value: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    number = str(value.get("value", ""))
    if value.get("comparator"):
        return "SN", {"5.1": value["comparator"], "5.2": number, **_unit(value)}
    return "NM", {"5": number, **_unit(value)}


def _range(value: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    low, high = value.get("low", {}), value.get("high", {})
    numbers = {"5.2": str(low.get("value", "")), "5.3": "-", "5.4": str(high.get("value", ""))}
    return "SN", {**numbers, **_unit(low)}


def _yes_no(value: bool) -> tuple[str, dict[str, str]]:
    return "CWE", {"5.1": "Y" if value else "N", "5.2": "Yes" if value else "No", "5.3": "HL70136"}


def _unit(quantity: Mapping[str, Any]) -> dict[str, str]:
    name = _SYSTEM_NAMES.get(quantity.get("system", ""), quantity.get("system", ""))
    code = quantity.get("code", "") or quantity.get("unit", "")
    return {"6.1": code, "6.2": quantity.get("unit", ""), "6.3": name} if code else {}


def _concept(concept: Mapping[str, Any], field: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for first, coding in zip((1, 4), concept.get("coding", []), strict=False):
        system = coding.get("system", "")
        if system.startswith(V2):
            system = "HL7" + system[len(V2) :]
        parts = (coding.get("code", ""), coding.get("display", ""), _SYSTEM_NAMES.get(system, system))
        values |= {f"{field}.{first + n}": part for n, part in enumerate(parts)}
    if concept.get("text") and not values.get(f"{field}.2"):
        values[f"{field}.2"] = concept["text"]  # a CE of v2.5.1 has no place for a text beside its codes
    return values


def _document(form: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, str]:
    subtypes = {mime: name for name, mime in _MIME.items()}
    subtype = subtypes.get(form.get("contentType", ""), "Octet-stream")
    return {
        "2": "ED",
        **_concept(report["code"], "3"),
        "5.2": "AP",
        "5.3": subtype,
        "5.4": "Base64",
        "5.5": form["data"],
        "11": _REPORT_CODES.get(report.get("status", ""), "F"),
    }


def v2_time(text: str) -> str:
    """Return a FHIR date, dateTime or instant as DTM."""
    day, mark, clock = text.partition("T")
    match = re.fullmatch(r"([\d:]*)(\.\d+)?(Z|[+-]\d\d:\d\d)?", clock)
    if not mark or match is None:
        return day.replace("-", "")
    zone = "+0000" if match[3] == "Z" else (match[3] or "").replace(":", "")
    return day.replace("-", "") + match[1].replace(":", "") + zone


_TYPED: dict[str, Callable[[Any], tuple[str, dict[str, str]]]] = {
    "valueQuantity": _quantity,
    "valueRange": _range,
    "valueBoolean": _yes_no,
    "valueString": lambda value: ("TX", {"5": value}),
    "valueInteger": lambda value: ("NM", {"5": str(value)}),
    "valueCodeableConcept": lambda value: ("CWE", _concept(value, "5")),
    "valueDateTime": lambda value: ("DTM", {"5": v2_time(value)}),
    "valueTime": lambda value: ("TM", {"5": value.replace(":", "")}),
}
