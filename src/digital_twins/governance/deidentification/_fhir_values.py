"""New values for old ones of FHIR: ids, references, addresses of the web, dates, ages, places."""

from __future__ import annotations

import re
import uuid
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from digital_twins.fhir.fhirpath import Node
from digital_twins.governance.deidentification._places import zip3
from digital_twins.governance.deidentification._text_rules import OLDEST_YEARS, oldest_year

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.governance.deidentification._identity import DeidentificationKey

BASE = "https://deidentified.invalid/fhir/"
_REFERENCE = re.compile(
    r"(?P<base>https?://\S*/)?(?P<type>[A-Z][A-Za-z]+)(?:/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?)?"
)
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?identifier=(?:[^|&]*\|)?([^|&]+)")
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(T.*)?)?)?")


def new_id(key: DeidentificationKey, old: str) -> str:
    """Return the new id of a resource, the same for every type, so that references need not be resolved."""
    return str(uuid.UUID(bytes=key.digest("fhir id", old.lower())[:16], version=4))


def new_link(key: DeidentificationKey, old: str) -> str:
    """Return the new target of a reference, a fullUrl or a request, empty where it is of no known form."""
    if old.startswith("#"):
        return "#" + new_id(key, old[1:]) if old != "#" else old
    if old.startswith("urn:uuid:"):
        return "urn:uuid:" + new_id(key, old.removeprefix("urn:uuid:"))
    conditional = _CONDITIONAL.fullmatch(old)
    if conditional and Node({}, conditional[1]).names():
        return f"{conditional[1]}?identifier={pseudonym(key, conditional[2])}"
    match = _REFERENCE.fullmatch(old)
    if match is None or not Node({}, match["type"]).names():
        return ""
    base = BASE if match["base"] else ""
    return base + match["type"] + (f"/{new_id(key, match['id'])}" if match["id"] else "")


def pseudonym(key: DeidentificationKey, value: str) -> str:
    """Return the new value of an identifier; UIDs and patient numbers as the DICOM part makes them."""
    if value.startswith("urn:oid:"):
        return "urn:oid:" + key.uid(value.removeprefix("urn:oid:"))
    return key.pseudonym(value)


def year_of(old: str) -> str | None:
    """Return the year of a date, None for one that tells of an age over 89 or that is no date."""
    match = _DATE.fullmatch(old)
    return match[1] if match and int(match[1]) >= oldest_year() else None


def shifted(old: str, days: int) -> str | None:
    """Return a date or dateTime moved by days; None for one without a day, or too old as :func:`year_of`."""
    match = _DATE.fullmatch(old)
    if match is None or match[3] is None or year_of(old) is None:
        return None
    try:
        day = date(int(match[1]), int(match[2]), int(match[3])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return day.isoformat() + (match[4] or "")


def new_age(quantity: dict[str, Any]) -> dict[str, Any]:
    """Return an age, ``>= 90`` for one over 89 years (45 CFR 164.514(b)(2)(i)(C))."""
    kept: dict[str, Any] = {
        name: quantity[name] for name in ("value", "comparator", "unit", "system", "code") if name in quantity
    }
    unit, value = str(kept.get("code", kept.get("unit", ""))), kept.get("value")
    years = {"mo": 12, "wk": 52.18, "d": 365.25, "h": 8766}.get(unit, 1)
    if isinstance(value, (int, float)) and value / years > OLDEST_YEARS:
        kept |= {"value": OLDEST_YEARS + 1, "comparator": ">=", "unit": "a", "code": "a"}
        kept["system"] = "http://unitsofmeasure.org"
    return kept


def new_address(old: dict[str, Any], countries: Iterable[str]) -> dict[str, Any]:
    """Return country, and for the United States state and first ZIP digits, of an address."""
    country = old.get("country", "")
    kept = {"country": country} if re.fullmatch(r"[A-Za-z]{2,3}", country) else {}
    if country.upper() not in countries:
        return kept
    if re.fullmatch(r"[A-Z]{2}", str(old.get("state", ""))):
        kept["state"] = old["state"]
    code = zip3(str(old.get("postalCode", "")))
    return kept | ({"postalCode": code} if code else {})
