"""Small readers of FHIR data types, tolerant of what is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._dates import to_datetime
from digital_twins.records import FHIR_SYSTEM, Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

_SCHEMES = {uri: scheme for scheme, uri in FHIR_SYSTEM.items()}
_TO_KG = {"kg": 1.0, "g": 0.001, "[lb_av]": 0.45359237, "lb": 0.45359237, "lbs": 0.45359237}
_TO_CM = {"cm": 1.0, "m": 100.0, "mm": 0.1, "[in_i]": 2.54, "in": 2.54, "in_us": 2.54}


def source(resource: Mapping[str, Any]) -> str:
    """Return ``Type/id`` of a resource, or the bare type when it has no id."""
    name = resource.get("id")
    return f"{resource.get('resourceType')}/{name}" if name else str(resource.get("resourceType"))


def codings(concept: Any) -> list[dict[str, Any]]:
    """Return the codings of a CodeableConcept."""
    found = concept.get("coding", []) if isinstance(concept, dict) else []
    return [c for c in found if isinstance(c, dict)]


def has_code(concept: Any, codes: frozenset[str]) -> bool:
    """Whether one coding of a CodeableConcept has one of the codes."""
    return any(c.get("code") in codes for c in codings(concept))


def text_of(concept: Any) -> str:
    """Return the words of a CodeableConcept: text, else the first display, else the first code."""
    if not isinstance(concept, dict):
        return ""
    parts = [
        concept.get("text"),
        *(c.get("display") for c in codings(concept)),
        *(c.get("code") for c in codings(concept)),
    ]
    return next((str(p) for p in parts if p), "")


def all_text(concept: Any) -> str:
    """Return text and displays of a CodeableConcept in one string, for keyword search."""
    if not isinstance(concept, dict):
        return ""
    return " ".join(str(p) for p in [concept.get("text"), *(c.get("display") for c in codings(concept))] if p)


def code_of(concept: Any) -> Code:
    """Return the first coding as a `records.Code`; the scheme is the DICOM designator where there is one."""
    first = next(iter(codings(concept)), {})
    system = str(first.get("system", ""))
    return Code(
        str(first.get("code", "")), _SCHEMES.get(system, system), first.get("display") or text_of(concept)
    )


def profiles(resource: Mapping[str, Any]) -> str:
    """Return the profile addresses of a resource in one string."""
    return " ".join(str(p) for p in resource.get("meta", {}).get("profile", ()))


def moment(value: Any) -> datetime | None:
    """Return the first moment of a FHIR date as an aware datetime, None when it is none."""
    if not isinstance(value, str):
        return None
    try:
        return to_datetime(value)
    except (InputError, OverflowError):
        return None


def effective(resource: Mapping[str, Any], stem: str = "effective") -> datetime | None:
    """Return when a resource applies: ``effectiveDateTime``, ``effectiveInstant`` or a period's start."""
    period = resource.get(f"{stem}Period")
    start = period.get("start") if isinstance(period, dict) else None
    return moment(resource.get(f"{stem}DateTime") or resource.get(f"{stem}Instant") or start)


def quantity(value: Any) -> tuple[float, str] | None:
    """Return number and UCUM code (or unit text) of a Quantity, None when it has no number."""
    if not isinstance(value, dict):
        return None
    number = value.get("value")
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return float(number), str(value.get("code") or value.get("unit") or "")


def kilograms(value: tuple[float, str]) -> float | None:
    """Return a body weight in kilograms; None for a unit that is no mass."""
    factor = _TO_KG.get(value[1])
    return value[0] * factor if factor else None


def centimetres(value: tuple[float, str]) -> float | None:
    """Return a body height in centimetres; None for a unit that is no length."""
    factor = _TO_CM.get(value[1])
    return value[0] * factor if factor else None


def extensions(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield ``(last part of the url, value)`` of every extension of a node, nested ones included."""
    if not isinstance(node, dict):
        return
    for extension in node.get("extension", ()):
        if not isinstance(extension, dict):
            continue
        name = re.split(r"[/#]", str(extension.get("url", "")))[-1]
        value = next((v for k, v in extension.items() if k.startswith("value")), None)
        if value is not None:
            yield name, value
        yield from extensions(extension)
