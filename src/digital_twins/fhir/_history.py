"""History of one resource, of a type and of the whole store, in pages (FHIR R4, http section 3.1.0.13)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins._errors import InputError
from digital_twins.fhir._access import check_history
from digital_twins.fhir._dates import date_range
from digital_twins.fhir._outcome import bad_request, not_found
from digital_twins.fhir._write import Saved, load_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.fhir._hits import Executes

DEFAULT_COUNT = 50
MAX_COUNT = 1000


@dataclass(slots=True)
class HistoryQuery:
    """What a history asks for: ``since`` and ``at`` in microseconds since 1970, and ``position`` to go on."""

    since: int | None = None
    at: tuple[int, int] | None = None
    count: int = DEFAULT_COUNT
    position: tuple[int, int, int] | None = None
    used: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class HistoryPage:
    """Versions, newest first; ``next_position`` continues behind them, None on the last page."""

    versions: list[Saved]
    next_position: str | None = None


def history_query(parameters: Iterable[tuple[str, str]], *, strict: bool = False) -> HistoryQuery:
    """Read ``_since``, ``_at``, ``_count`` and the paging position.

    Raises
    ------
    FhirError
        400 for a value that cannot be read, and when ``strict`` for an unknown parameter.
    """
    asked = HistoryQuery()
    for name, text in parameters:
        if name == "_since":
            asked.since = _dated(name, text)[0]
        elif name == "_at":
            asked.at = _dated(name, text)
        elif name == "_count":
            if not text.isdecimal() or len(text) > 9:
                raise bad_request("_count must be a whole number of zero or more.", code="value")
            asked.count = min(int(text), MAX_COUNT) or DEFAULT_COUNT
        elif name == "_cursor":
            asked.position = _decoded(text)
            continue
        elif name not in {"_format", "_pretty", "_summary", "_elements"}:
            if strict:
                raise bad_request("A history takes _since, _at and _count.", code="not-supported")
            continue
        asked.used.append((name, text))
    return asked


def _dated(name: str, text: str) -> tuple[int, int]:
    try:
        return date_range(text.replace(" ", "+"))  # a + that was not encoded
    except InputError:
        raise bad_request(f"{name} must be an instant such as 2024-03-01T08:00:00Z.", code="value") from None


def _decoded(text: str) -> tuple[int, int, int]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        updated, rid, version = found
    except (ValueError, TypeError):
        raise bad_request("The paging cursor was not made by this server.", code="value") from None
    if not all(type(number) is int for number in found):
        raise bad_request("The paging cursor was not made by this server.", code="value")
    return updated, rid, version


def must_be_known(cursor: Executes, kind: str, name: str) -> None:
    """Refuse an id that was never used.

    Raises
    ------
    FhirError
        404.
    """
    row = cursor.execute("SELECT 1 FROM fhir_resource WHERE type=? AND id=?", (kind, name)).fetchone()
    if row is None:
        raise not_found(kind)


def _conditions(asked: HistoryQuery, table: str, kind: str | None, name: str | None) -> tuple[str, list[Any]]:
    where, arguments = [], list[Any]()
    for column, value in (("r.type", kind), ("r.id", name)):
        if value is not None:
            where.append(f"{column}=?")
            arguments.append(value)
    if asked.since is not None:
        where.append(f"{table}.updated>=?")
        arguments.append(asked.since)
    if asked.at is not None:
        where.append(f"{table}.updated<?")
        arguments.append(asked.at[1])
        if table == "v":  # the version that came after it began later than the moment asked for
            following = "SELECT n.updated FROM fhir_version n WHERE n.rid=v.rid AND n.version=v.version+1"
            where.append(f"coalesce(({following}), r.updated)>?")
            arguments.append(asked.at[0])
    if asked.position is not None:
        where.append(f"({table}.updated, {table}.rid, {table}.version) < (?,?,?)")
        arguments.extend(asked.position)
    return " AND ".join(where) or "1=1", arguments


def readable_page(
    cursor: Executes, asked: HistoryQuery, *, kind: str | None = None, name: str | None = None
) -> HistoryPage:
    """Do what `history_page` does for who may see all of these versions.

    Raises
    ------
    FhirError
        403 for who may not, 404 when one resource is asked for whose id was never used.
    """
    if kind is not None and name is not None:
        must_be_known(cursor, kind, name)
        load_versions(cursor, kind, name)  # refuses who may not see every one of them
    else:
        check_history(kind)
    return history_page(cursor, asked, kind=kind, name=name)


def history_page(
    cursor: Executes, asked: HistoryQuery, *, kind: str | None = None, name: str | None = None
) -> HistoryPage:
    """Return one page of versions, newest first, deletions among them.

    Parameters
    ----------
    cursor
        Reads the store.
    asked
        Times, page size and position.
    kind, name
        Limit it to a type, or to one resource.
    """
    now, first = _conditions(asked, "r", kind, name)
    old, second = _conditions(asked, "v", kind, name)
    limit = asked.count + 1
    rows: list[Any] = []
    for text, arguments in (
        (
            "SELECT r.updated, r.rid, r.version, r.type, r.id, r.deleted, r.body, r.method "  # noqa: S608  (our own texts; values are bound)  # nosec B608
            f"FROM fhir_resource r WHERE {now} ORDER BY r.updated DESC, r.rid DESC LIMIT {limit}",
            first,
        ),
        (
            "SELECT v.updated, v.rid, v.version, r.type, r.id, v.deleted, v.body, v.method "  # noqa: S608  (our own texts; values are bound)  # nosec B608
            f"FROM fhir_version v JOIN fhir_resource r ON r.rid=v.rid WHERE {old} "
            f"ORDER BY v.updated DESC, v.rid DESC, v.version DESC LIMIT {limit}",
            second,
        ),
    ):
        rows.extend(cursor.execute(text, arguments))
    rows.sort(key=lambda row: row[:3], reverse=True)
    more = len(rows) > asked.count
    rows = rows[: asked.count]
    versions = [
        Saved(type_, id_, version, updated, body, method, deleted=bool(deleted))
        for updated, _, version, type_, id_, deleted, body, method in rows
    ]
    position = base64.urlsafe_b64encode(orjson.dumps(rows[-1][:3])).decode().rstrip("=") if more else None
    return HistoryPage(versions, position)
