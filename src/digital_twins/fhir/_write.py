"""Resources in and out of the tables, inside a transaction that somebody else holds."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.fhir._access import guarded_load, guarded_remove, guarded_write
from digital_twins.fhir._dates import to_instant
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._index import IndexRows, index_rows
from digital_twins.fhir._json import dumps
from digital_twins.fhir._outcome import FhirError, Issue, gone, not_found
from digital_twins.fhir._owner import owner_of
from digital_twins.fhir._package_search import add_rows
from digital_twins.fhir._schema import INDEX_TABLES
from digital_twins.fhir._words import mark_stale
from digital_twins.storage import insert_row, seal_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.fhir._hits import Executes
    from digital_twins.fhir._package_index import PackageParameters
    from digital_twins.fhir._package_search import Extra
    from digital_twins.storage import Database

_EMPTY = IndexRows()
_NAMES = {table: table.removeprefix("fhir_") for table in INDEX_TABLES}
_COLUMNS = {
    table: (*(name for name in columns if name != "rid"), "rid") for table, columns in INDEX_TABLES.items()
}
"""The columns in the order of the index rows, which have no resource number, and then that number."""
_INSERT = {
    table: f"INSERT OR IGNORE INTO {table}({','.join(columns)}) VALUES({','.join('?' * len(columns))})"
    for table, columns in _COLUMNS.items()
}
_DELETE = {
    table: f"DELETE FROM {table} WHERE {' AND '.join(f'{c}=?' for c in columns)}"  # noqa: S608  (names of ours)  # nosec B608
    for table, columns in _COLUMNS.items()
}
_INSERT_RESOURCE = (
    "INSERT INTO fhir_resource(type, id, version, updated, deleted, method, index_version, body) "
    "VALUES(?,?,1,?,0,?,?,?)"
)
_INSERT_CODING = "INSERT OR IGNORE INTO fhir_coding(param, code, system, uri, words) VALUES(?,?,?,?,?)"
_HELD_CODING = "SELECT 1 FROM fhir_coding WHERE param=? AND code=? AND system=? AND uri=? AND words=?"
_WRITES_CONFIRMED_AT_ONCE, _MOST_HELD = 32, 200_000
_ETAG = re.compile(r'(?:W/)?"?(\d{1,18})"?')


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored version of a resource.

    ``updated`` counts microseconds since 1970 UTC; ``body`` is the JSON as served (empty for a deletion);
    ``created`` says that this call made the resource.
    """

    type: str
    id: str
    version: int
    updated: int
    body: bytes
    method: str = "POST"
    deleted: bool = False
    created: bool = False

    @property
    def reference(self) -> str:
        """``Type/id``."""
        return f"{self.type}/{self.id}"

    @property
    def etag(self) -> str:
        """Weak ETag of the version, e.g. ``W/"3"``."""
        return f'W/"{self.version}"'

    @property
    def location(self) -> str:
        """``Type/id/_history/version``."""
        return f"{self.type}/{self.id}/_history/{self.version}"

    @property
    def resource(self) -> dict[str, Any]:
        """The resource parsed anew, so that the caller may change it."""
        parsed: dict[str, Any] = orjson.loads(self.body)
        return parsed


@dataclass(frozen=True, slots=True)
class _Current:
    rid: int
    version: int
    updated: int
    deleted: bool
    method: str
    index_version: int
    body: bytes


_IDS: deque[bytes] = deque()  # random bytes that wait to become ids: one call of the system gives 256 of them


def new_id() -> str:
    """Return a new logical id: a UUID of version 7 (RFC 9562), so that new rows lie beside each other."""
    try:
        chance = _IDS.popleft()
    except IndexError:
        pool = os.urandom(2560)
        _IDS.extend(pool[n : n + 10] for n in range(0, 2560, 10))
        return new_id()
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + chance)
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def now_us() -> int:
    """Return the wall clock in microseconds since 1970, cut to the milliseconds that FHIR shows."""
    return time.time_ns() // 1_000_000 * 1000


def version_of(etag: str) -> int:
    """Return the version number of an If-Match value.

    Raises
    ------
    FhirError
        400 when it is no version ETag.
    """
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise FhirError(400, [Issue("value", 'If-Match must be a version ETag such as W/"3".')])
    return int(match[1])


def _seal(resource: Mapping[str, Any], name: str, version: int, updated: int) -> bytes:
    """Return the body to store: id and meta of the server, everything else as it came."""
    meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": to_instant(updated)}
    head = {"resourceType": resource["resourceType"], "id": name, "meta": meta}
    rest = {key: value for key, value in resource.items() if key not in head}
    return dumps({**head, **rest})


def _reindex(cursor: Executes, rid: int, old: IndexRows, new: IndexRows) -> None:
    for table, name in _NAMES.items():
        before, after = getattr(old, name), getattr(new, name)
        if before and (gone_rows := before - after):
            cursor.executemany(_DELETE[table], [(*row, rid) for row in gone_rows])
        if fresh := after - before if before else after:
            cursor.executemany(_INSERT[table], [(*row, rid) for row in fresh])


def add_index_rows(cursor: Executes, rid: int, rows: IndexRows) -> None:
    """Add rows to the index of a stored resource, and the codings that they speak of."""
    _reindex(cursor, rid, _EMPTY, rows)
    cursor.executemany(_INSERT_CODING, rows.coding)


def _old_rows(cursor: Executes, current: _Current, codings: SeenCodings) -> IndexRows:
    """Return the index rows that a stored resource has; rows made by other definitions are removed whole."""
    if current.deleted:
        return _EMPTY
    if current.index_version != definitions().index_version:
        for table in INDEX_TABLES:
            cursor.execute(f"DELETE FROM {table} WHERE rid=?", (current.rid,))  # noqa: S608  (names of ours)  # nosec B608
        return _EMPTY
    return codings.rows(orjson.loads(current.body))


def _find(cursor: Executes, kind: str, name: str) -> _Current | None:
    row = cursor.execute(
        "SELECT rid, version, updated, deleted, method, index_version, body FROM fhir_resource "
        "WHERE type=? AND id=?",
        (kind, name),
    ).fetchone()
    if row is None:
        return None
    rid, version, updated, deleted, method, index_version, body = row
    return _Current(rid, version, updated, bool(deleted), method, index_version, body)


class SeenCodings:
    """The codings that a database is known to hold, so that each is written once and not with every resource.

    A coding counts as held when it was read from a committed state, never because a unit of work wrote it:
    that unit may still be undone.

    Parameters
    ----------
    parameters
        The search parameters of packages, which are indexed beside those of R4.
    """

    def __init__(self, parameters: PackageParameters | None = None) -> None:
        self._parameters = parameters
        self._held: set[tuple[Any, ...]] = set()
        self._written: set[tuple[Any, ...]] = set()
        self._writes = 0  # since codings were last confirmed

    @property
    def served(self) -> Extra:
        """The search parameters of packages that a condition may name."""
        return self._parameters.served if self._parameters is not None else {}

    def rows(self, resource: Mapping[str, Any]) -> IndexRows:
        """Return the search-index rows of one resource."""
        rows = index_rows(resource)
        if self._parameters is not None:
            for parameter in self._parameters.indexed.get(resource["resourceType"], {}).values():
                add_rows(rows, parameter, resource)
        return rows

    def write(self, cursor: Executes, rows: set[tuple[int, str, int, str, str]]) -> None:
        """Write those of the codings that are not known to be held."""
        fresh = rows - self._held
        if fresh:
            cursor.executemany(_INSERT_CODING, fresh)
            self._written |= fresh
            self._writes += 1

    def confirm(self, database: Database) -> None:
        """Look up what units of work have written since, and keep what is committed."""
        if self._writes < _WRITES_CONFIRMED_AT_ONCE:
            return
        waiting, self._written, self._writes = self._written, set(), 0
        if len(self._held) > _MOST_HELD:
            self._held = set()
        with database.read() as connection:
            self._held |= {row for row in waiting if connection.execute(_HELD_CODING, row).fetchone()}


class PendingRows:
    """Index rows of the resources that a transaction makes: written together, with one statement a table.

    Sorted, so that rows which lie beside each other in the index are written after each other.

    Parameters
    ----------
    codings
        Takes the codings of the rows.
    """

    def __init__(self, codings: SeenCodings) -> None:
        self._codings = codings
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in INDEX_TABLES}
        self._coding: set[tuple[int, str, int, str, str]] = set()

    def add(self, rid: int, rows: IndexRows) -> None:
        """Take the rows of a new resource."""
        for table, name in _NAMES.items():
            found = getattr(rows, name)
            if found:
                self._rows[table] += [(*row, rid) for row in found]
        self._coding |= rows.coding

    def flush(self, cursor: Executes) -> None:
        """Write what waits; before a search of the same transaction, and at its end."""
        for table, rows in self._rows.items():
            if rows:
                rows.sort()
                cursor.executemany(_INSERT[table], rows)
                self._rows[table] = []
        if self._coding:
            self._codings.write(cursor, self._coding)
            self._coding = set()


@guarded_write("c")
def insert(
    cursor: Executes,
    resource: Mapping[str, Any],
    name: str,
    *,
    method: str = "POST",
    codings: SeenCodings | None = None,
    pending: PendingRows | None = None,
) -> Saved:
    """Store version 1 of a new resource; with ``pending`` its index rows are left to the caller to flush."""
    kind, updated = resource["resourceType"], now_us()
    body = _seal(resource, name, 1, updated)
    stored = seal_for(cursor, body, lambda: owner_of(kind, name, body))
    values = (kind, name, updated, method, definitions().index_version, stored)
    rid = insert_row(cursor, _INSERT_RESOURCE, values, key="rid")
    codings = codings or SeenCodings()
    waiting = pending or PendingRows(codings)
    waiting.add(rid, codings.rows(resource))
    if pending is None:
        waiting.flush(cursor)
    return Saved(kind, name, 1, updated, body, method, created=True)


def _supersede(cursor: Executes, current: _Current, updated: int, new: tuple[int, str, bytes]) -> None:
    """Move the current version into the history and put the new one in its place."""
    deleted, method, body = new
    mark_stale(cursor, current.rid)
    cursor.execute(  # as it lies there: sealed for whom it was about then
        "INSERT INTO fhir_version(rid, version, updated, deleted, method, body) "
        "SELECT rid, version, updated, deleted, method, body FROM fhir_resource WHERE rid=?",
        (current.rid,),
    )
    cursor.execute(
        "UPDATE fhir_resource SET version=?, updated=?, deleted=?, method=?, index_version=?, body=? "
        "WHERE rid=?",
        (current.version + 1, updated, deleted, method, definitions().index_version, body, current.rid),
    )


def _check_version(current: _Current | None, if_match: int | None, kind: str) -> None:
    if if_match is not None and (current is None or current.deleted or current.version != if_match):
        issue = Issue("conflict", f"The {kind} has another version than If-Match names.")
        raise FhirError(412, [issue], fix="Read the resource again and repeat the change on its new version.")


@guarded_write("u")
def put(
    cursor: Executes,
    resource: Mapping[str, Any],
    name: str,
    *,
    if_match: int | None = None,
    codings: SeenCodings | None = None,
    pending: PendingRows | None = None,
) -> Saved:
    """Store the next version of a resource, or version 1 under the caller's id; see `insert`."""
    kind = resource["resourceType"]
    current = _find(cursor, kind, name)
    _check_version(current, if_match, kind)
    if current is None:
        return insert(cursor, resource, name, method="PUT", codings=codings, pending=pending)
    updated = max(now_us(), current.updated)
    body = _seal(resource, name, current.version + 1, updated)
    codings = codings or SeenCodings()
    old = _old_rows(cursor, current, codings)
    stored = seal_for(cursor, body, lambda: owner_of(kind, name, body))
    _supersede(cursor, current, updated, (0, "PUT", stored))
    rows = codings.rows(resource)
    _reindex(cursor, current.rid, old, rows)
    codings.write(cursor, rows.coding)
    return Saved(kind, name, current.version + 1, updated, body, "PUT", created=current.deleted)


@guarded_remove
def remove(
    cursor: Executes,
    kind: str,
    name: str,
    *,
    if_match: int | None = None,
    codings: SeenCodings | None = None,
) -> Saved | None:
    """Delete a resource; its history stays. None when there was nothing to delete."""
    current = _find(cursor, kind, name)
    _check_version(current, if_match, kind)
    if current is None or current.deleted:
        return None
    updated = max(now_us(), current.updated)
    old = _old_rows(cursor, current, codings or SeenCodings())
    _supersede(cursor, current, updated, (1, "DELETE", b""))
    _reindex(cursor, current.rid, old, _EMPTY)
    return Saved(kind, name, current.version + 1, updated, b"", "DELETE", deleted=True)


@guarded_load("r")
def load(cursor: Executes, kind: str, name: str) -> Saved:
    """Return the current version.

    Raises
    ------
    FhirError
        404 when the id was never used, 410 when the resource is deleted.
    """
    row = cursor.execute(
        "SELECT version, updated, deleted, body, method FROM fhir_resource WHERE type=? AND id=?",
        (kind, name),
    ).fetchone()
    if row is None:
        raise not_found(kind)
    if row[2]:
        raise gone(kind)
    return Saved(kind, name, row[0], row[1], row[3], row[4])


@guarded_load("r")
def load_version(cursor: Executes, kind: str, name: str, version: int) -> Saved:
    """Return one version, which may be a deletion.

    Raises
    ------
    FhirError
        404 when there is no such version.
    """
    current = _find(cursor, kind, name)
    row = None
    if current is not None and current.version == version:
        row = current.version, current.updated, current.deleted, current.body, current.method
    elif current is not None:
        text = "SELECT version, updated, deleted, body, method FROM fhir_version WHERE rid=? AND version=?"
        row = cursor.execute(text, (current.rid, version)).fetchone()
    if row is None:
        raise FhirError(404, [Issue("not-found", "This version does not exist.")], fix="Read its history.")
    return Saved(kind, name, row[0], row[1], row[3], row[4], deleted=bool(row[2]))


@guarded_load("r")
def load_versions(cursor: Executes, kind: str, name: str) -> list[Saved]:
    """Return every version, newest first, deletions among them.

    Raises
    ------
    FhirError
        404 when the id was never used.
    """
    current = _find(cursor, kind, name)
    if current is None:
        raise not_found(kind)
    rows = cursor.execute(
        "SELECT version, updated, deleted, body, method FROM fhir_version WHERE rid=? ORDER BY version DESC",
        (current.rid,),
    )
    first = (current.version, current.updated, current.deleted, current.body, current.method)
    return [Saved(kind, name, v, u, b, m, deleted=bool(d)) for v, u, d, b, m in [first, *rows]]
