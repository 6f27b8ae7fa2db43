"""``Patient/[id]/$everything``: the patient's compartment, and what its resources refer to, in pages."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from digital_twins._errors import InputError
from digital_twins.fhir._access import allowed_hits
from digital_twins.fhir._compartment import compartment_numbers
from digital_twins.fhir._dates import date_range
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._hits import bodies
from digital_twins.fhir._includes import Include, add_included
from digital_twins.fhir._outcome import bad_request
from digital_twins.fhir._predicates import split_values
from digital_twins.fhir._search import SearchPage
from digital_twins.fhir._write import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._store import FhirStore

DEFAULT_COUNT = 200
MAX_COUNT = 1000
_DATES = ("date", "effective", "onset-date", "period", "performed", "authored", "authored-on", "started")
_SUPPORTING = ("Practitioner", "Organization", "Location", "Medication", "Device", "PractitionerRole")


@dataclass(slots=True)
class EverythingQuery:
    """What is asked: care dates and time of change in microseconds since 1970, types, and the page."""

    start: int | None = None
    end: int | None = None
    since: int | None = None
    types: list[str] = field(default_factory=list)
    count: int = DEFAULT_COUNT
    after: int = 0
    used: list[tuple[str, str]] = field(default_factory=list)


def everything_query(parameters: Iterable[tuple[str, str]], *, strict: bool = False) -> EverythingQuery:
    """Read ``start``, ``end``, ``_since``, ``_type``, ``_count`` and the paging position.

    Raises
    ------
    FhirError
        400 for a value that cannot be read, and when ``strict`` for an unknown parameter.
    """
    asked = EverythingQuery()
    for name, text in parameters:
        if name == "_cursor":
            asked.after = _position(text)
        elif name in _READERS:
            _READERS[name](asked, text)
            asked.used.append((name, text))
        elif strict and name not in {"_format", "_pretty"}:
            known = "$everything takes start, end, _since, _type and _count."
            raise bad_request(known, code="not-supported")
    if not set(asked.types) <= definitions().types:
        raise bad_request("_type names what is not a resource type of FHIR R4.", code="value")
    return asked


def _start(asked: EverythingQuery, text: str) -> None:
    asked.start = _moment("start", text)[0]


def _end(asked: EverythingQuery, text: str) -> None:
    asked.end = _moment("end", text)[1]


def _since(asked: EverythingQuery, text: str) -> None:
    asked.since = _moment("_since", text)[0]


def _count(asked: EverythingQuery, text: str) -> None:
    if not text.isdecimal() or len(text) > 9:
        raise bad_request("_count must be a whole number of zero or more.", code="value")
    asked.count = min(int(text), MAX_COUNT) or DEFAULT_COUNT


_READERS: dict[str, Callable[[EverythingQuery, str], None]] = {
    "start": _start,
    "end": _end,
    "_since": _since,
    "_type": lambda asked, text: asked.types.extend(split_values(text)),
    "_count": _count,
}


def _moment(name: str, text: str) -> tuple[int, int]:
    try:
        return date_range(text.replace(" ", "+"))
    except InputError:
        raise bad_request(f"{name} must be a date such as 2024-03-01.", code="value") from None


def _position(text: str) -> int:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        found = None
    if type(found) is not int:
        raise bad_request("The paging cursor was not made by this server.", code="value")
    return found


def everything_page(store: FhirStore, name: str, asked: EverythingQuery, agent: str) -> SearchPage:
    """Return a page: the Patient first, then its compartment, each page with what it refers to.

    Raises
    ------
    FhirError
        404 or 410 when there is no such Patient.
    """
    with store.database.read() as connection:
        load(connection, "Patient", name)
        page = compartment_page(connection, name, asked)
    store.note_read("fhir.everything", agent=agent, entity=f"Patient/{name}", patient=name)
    return page


def compartment_page(cursor: Executes, name: str, asked: EverythingQuery) -> SearchPage:
    """Return a page of what belongs to a Patient that is there; see `everything_page`."""
    numbers = compartment_numbers()
    marks = ",".join("?" * len(numbers))
    members = f"SELECT rid FROM fhir_reference WHERE param IN ({marks}) AND target=?"  # noqa: S608  (question marks only)  # nosec B608
    where = f"(r.rid IN ({members}) OR (r.type='Patient' AND r.id=?)) AND r.deleted=0"
    arguments: list[int | str] = [*numbers, f"Patient/{name}", name]
    if asked.types:
        where += f" AND r.type IN ({','.join('?' * len(asked.types))})"
        arguments.extend(asked.types)
    if asked.since is not None:
        where += " AND r.updated>=?"
        arguments.append(asked.since)
    if asked.start is not None or asked.end is not None:
        text, values = _care_dates(asked)
        where += f" AND {text}"
        arguments.extend(values)
    # The Patient leads the first page whatever its number: it is at place 0.
    place = "CASE WHEN r.type='Patient' AND r.id=? THEN 0 ELSE r.rid END"
    text = (
        f"SELECT place, rid FROM (SELECT {place} AS place, r.rid AS rid "  # noqa: S608  (our own texts; values are bound)  # nosec B608
        f"FROM fhir_resource r WHERE {where}) x "
        f"WHERE place>=? ORDER BY place LIMIT {asked.count + 1}"
    )
    rows = list(cursor.execute(text, [name, *arguments, asked.after]))
    page = SearchPage()
    if len(rows) > asked.count:
        page.next_cursor = base64.urlsafe_b64encode(orjson.dumps(rows[-1][0])).decode().rstrip("=")
        rows.pop()
    page.hits = bodies(cursor, [rid for _, rid in rows], "match")
    if not asked.types:
        add_included(cursor, _supporting(), page.hits)
    page.hits = allowed_hits(page.hits)
    return page


def _care_dates(asked: EverythingQuery) -> tuple[str, list[int]]:
    """Return the condition on dates of care; a resource without such a date stays."""
    numbers = [
        rows[code].number
        for rows in definitions().parameters.values()
        for code in _DATES
        if code in rows and rows[code].kind == "date"
    ]
    keys = ",".join(map(str, numbers))
    of_it = f"SELECT 1 FROM fhir_date d WHERE d.rid=r.rid AND d.param IN ({keys})"  # noqa: S608  (numbers of ours)  # nosec B608
    inside, values = "", list[int]()
    if asked.start is not None:
        inside += " AND d.high>?"
        values.append(asked.start)
    if asked.end is not None:
        inside += " AND d.low<?"
        values.append(asked.end)
    return f"(NOT EXISTS ({of_it}) OR EXISTS ({of_it}{inside}))", values


def _supporting() -> list[Include]:
    """Return the includes that bring practitioners, places, medications and devices along."""
    found = []
    for kind, rows in definitions().parameters.items():
        for target in _SUPPORTING:
            named = tuple(
                p for p in rows.values() if p.kind == "reference" and (not p.targets or target in p.targets)
            )
            if named:
                found.append(Include(named, kind, target, reverse=False, again=False))
    return found
