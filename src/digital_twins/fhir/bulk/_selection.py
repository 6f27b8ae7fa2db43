"""Which stored resources an export holds: sets of row numbers, one bit each."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import orjson

from digital_twins.fhir._compartment import compartment_numbers
from digital_twins.fhir._outcome import not_found
from digital_twins.fhir._query import MAX_COUNT, parse_query
from digital_twins.fhir._search import run_query
from digital_twins.fhir._write import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from digital_twins.fhir._package_search import Extra
    from digital_twins.fhir.bulk._request import ExportRequest
    from digital_twins.storage import Database

_PAGE = 1000
_GROUPS_DEEP = 10


class RowSet:
    """A set of row numbers at one bit each: a million resources take 125 kB."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, rid: int) -> None:
        """Add a row number."""
        place = rid >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits) + len(self._bits) // 2))
        self._bits[place] |= 1 << (rid & 7)

    def __contains__(self, rid: int) -> bool:
        place = rid >> 3
        return place < len(self._bits) and bool(self._bits[place] & (1 << (rid & 7)))

    def __iter__(self) -> Iterator[int]:
        for place, byte in enumerate(self._bits):
            if byte:
                yield from (8 * place + bit for bit in range(8) if byte & (1 << bit))


def compartments(database: Database, patients: Iterable[str], tick: Callable[[], None]) -> RowSet:
    """Return the rows of the patients and of what is in their compartments."""
    rows = RowSet()
    marks = ",".join(map(str, compartment_numbers()))
    for name in patients:
        tick()
        with database.read() as connection:
            for (rid,) in connection.execute(
                f"SELECT rid FROM fhir_reference WHERE target=? AND param IN ({marks})",  # noqa: S608  (numbers of ours)  # nosec B608
                (f"Patient/{name}",),
            ):
                rows.add(int(str(rid)))
            for (rid,) in connection.execute(
                "SELECT rid FROM fhir_resource WHERE type='Patient' AND id=?", (name,)
            ):
                rows.add(int(str(rid)))
    return rows


def patients_of(database: Database, request: ExportRequest) -> Iterator[str]:
    """Yield the ids of the patients of an export: of the Group, or all, cut to those that were named."""
    wanted = set(request.patients)
    found = _members(database, request.group, set()) if request.level == "group" else _every_patient(database)
    return (name for name in found if not wanted or name in wanted)


def _every_patient(database: Database) -> Iterator[str]:
    last = -1
    while True:
        with database.read() as connection:
            rows = connection.execute(
                "SELECT rid, id FROM fhir_resource WHERE type='Patient' AND deleted=0 AND rid>?"
                " ORDER BY rid LIMIT ?",
                (last, _PAGE),
            ).fetchall()
        if not rows:
            return
        yield from (str(row[1]) for row in rows)
        last = int(str(rows[-1][0]))


def _members(database: Database, group: str, seen: set[str]) -> Iterator[str]:
    if group in seen or len(seen) >= _GROUPS_DEEP:
        return
    seen.add(group)
    with database.read() as connection:
        resource = load(connection, "Group", group).resource
    for member in resource.get("member", ()):
        reference = str(member.get("entity", {}).get("reference", ""))
        kind, _, name = reference.rpartition("/")
        if member.get("inactive") or not name:
            continue
        if kind.endswith("Patient"):
            yield name
        elif kind.endswith("Group"):
            yield from _members(database, name, seen)


def check_group(database: Database, group: str) -> None:
    """Raise FhirError (404 or 410) unless the Group is there and is one of persons."""
    with database.read() as connection:
        kind = orjson.loads(load(connection, "Group", group).body).get("type")
    if kind != "person":
        raise not_found("Group of persons")


def filtered(
    database: Database, request: ExportRequest, tick: Callable[[], None], extra: Extra | None = None
) -> dict[str, RowSet]:
    """Return, for each type that ``_typeFilter`` names, the rows that one of its searches finds.

    ``extra`` are the search parameters of packages.
    """
    found: dict[str, RowSet] = {}
    for text in request.filters:
        kind, _, words = text.partition("?")
        rows = found.setdefault(kind, RowSet())
        pairs = [*parse_qsl(words, keep_blank_values=True), ("_count", str(MAX_COUNT))]
        cursor: str | None = None
        while True:
            tick()
            page_of = [*pairs, *([("_cursor", cursor)] if cursor else [])]
            query = parse_query(kind, page_of, strict=True, extra=extra)
            with database.read() as connection:
                page = run_query(connection, query)
            for hit in page.matches:
                rows.add(hit.rid)
            cursor = page.next_cursor
            if cursor is None:
                break
    return found
