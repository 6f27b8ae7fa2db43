"""The search parameters of a node's packages, and the index over what was stored before they came."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, cast

import orjson

from digital_twins.fhir._index import IndexRows
from digital_twins.fhir._package_search import Extra, add_rows, extra_parameters
from digital_twins.fhir._schema import INDEX_TABLES
from digital_twins.fhir._write import add_index_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import apsw

    from digital_twins.fhir._definitions import SearchParameter
    from digital_twins.storage import Database

_PAGE = 200
"""Resources that one unit of work indexes: others write in between."""


class PackageParameters:
    """The search parameters that the packages in a folder add, read again when the folder changes.

    From then on every write indexes them; a search knows one as soon as what was stored before is indexed
    too (`reindex`). How far that is stands in the table ``fhir_search_parameter``, so any process may do it.

    Parameters
    ----------
    folder
        Folder of FHIR package files (``.tgz``); none when missing.
    database
        Where the resources are; opened with ``fhir.MIGRATIONS``.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database
        self._lock = threading.Lock()
        self._read: tuple[int, Extra] = (0, {})
        self._served: tuple[int, Extra] = (-1, {})

    def _stamp(self) -> int:
        try:
            return os.stat(self._folder).st_mtime_ns  # noqa: PTH116  (asked for by every write)
        except OSError:
            return 0

    @property
    def indexed(self) -> Extra:
        """Every parameter of the packages: what a write has to index.

        Raises
        ------
        InputError
            When a package in the folder cannot be read.
        """
        from digital_twins.fhir.validation import package_resources

        stamp = self._stamp()
        if self._read[0] != stamp:
            with self._lock:
                if self._read[0] != stamp:
                    files = sorted(self._folder.glob("*.tgz")) if stamp else []
                    resources = (r for path in files for r in package_resources(path))
                    self._read = stamp, extra_parameters(resources)
        return self._read[1]

    @property
    def served(self) -> Extra:
        """The parameters whose index is whole: what a search may ask for."""
        indexed, stamp = self.indexed, self._read[0]
        if not indexed or self._served[0] == stamp:
            return self._served[1] if indexed else {}
        with self._database.read() as connection:
            rows = connection.execute("SELECT number FROM fhir_search_parameter WHERE ready=1").fetchall()
        ready = {int(str(number)) for (number,) in rows}
        found: Extra = {}
        for each in _flat(indexed):
            if each.number in ready:
                found.setdefault(each.resource, {})[each.code] = each
        if sum(map(len, found.values())) == sum(map(len, indexed.values())):
            self._served = stamp, found  # whole: no need to ask the table again
        return found

    def reindex(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Bring the index over the stored resources to what the packages say; return how many were read.

        It may be broken off: the next call goes on where this one stood.

        Parameters
        ----------
        progress
            Told the resources read so far and how many there are to read; what it raises ends the work.

        Raises
        ------
        InputError
            When a package in the folder cannot be read.
        StorageError
            When the disk does not take it.
        """
        wanted = {each.number: each for each in _flat(self.indexed)}
        self._database.write(lambda cursor: _agree(cursor, wanted))
        done, total = 0, self._waiting()
        for kind in sorted({each.resource for each in wanted.values()}):
            parameters = [each for each in wanted.values() if each.resource == kind]
            while read := self._database.write(partial(_page, kind=kind, parameters=parameters)):
                done += read
                if progress is not None:
                    progress(done, max(done, total))
        return done

    def _waiting(self) -> int:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM fhir_resource r JOIN (SELECT resource, min(done) AS done "
                "FROM fhir_search_parameter WHERE ready=0 GROUP BY resource) s "
                "ON r.type=s.resource AND r.rid>s.done WHERE r.deleted=0"
            ).fetchone()
        return int(str(row[0])) if row else 0


def _flat(extra: Extra) -> Iterator[SearchParameter]:
    for parameters in extra.values():
        yield from parameters.values()


def _agree(cursor: apsw.Cursor, wanted: dict[int, SearchParameter]) -> None:
    """Write down the parameters that are new, and forget those that are gone with their rows."""
    rows = cursor.execute("SELECT number, identifier_number FROM fhir_search_parameter").fetchall()
    held = {int(str(number)): int(str(other)) for number, other in rows}
    for number in held.keys() - wanted.keys():
        for table in (*INDEX_TABLES, "fhir_coding"):
            cursor.execute(f"DELETE FROM {table} WHERE param IN (?,?)", (number, held[number]))  # noqa: S608  (names of ours)  # nosec B608
        cursor.execute("DELETE FROM fhir_search_parameter WHERE number=?", (number,))
    for number in wanted.keys() - held.keys():
        each = wanted[number]
        cursor.execute(
            "INSERT INTO fhir_search_parameter(number, identifier_number, resource, code, done, ready) "
            "VALUES(?,?,?,?,0,0)",
            (number, each.identifier_number, each.resource, each.code),
        )


def _page(cursor: apsw.Cursor, kind: str, parameters: list[SearchParameter]) -> int:
    """Index the next resources of a type; return how many, 0 when every parameter is ready."""
    rows = cursor.execute(
        "SELECT number, done FROM fhir_search_parameter WHERE resource=? AND ready=0", (kind,)
    )
    waiting = {int(str(number)): int(str(done)) for number, done in rows.fetchall()}
    own = [each for each in parameters if each.number in waiting]
    if not own:
        return 0
    found = cursor.execute(
        "SELECT rid, body FROM fhir_resource WHERE type=? AND deleted=0 AND rid>? ORDER BY rid LIMIT ?",
        (kind, min(waiting.values()), _PAGE),
    ).fetchall()
    last = 0
    for rid, body in found:
        new, resource, last = IndexRows(), orjson.loads(cast("bytes", body)), int(str(rid))
        for each in own:
            add_rows(new, each, resource)
        add_index_rows(cursor, last, new)
    for number, done in waiting.items():
        cursor.execute(
            "UPDATE fhir_search_parameter SET done=?, ready=? WHERE number=?",
            (max(done, last), int(len(found) < _PAGE), number),
        )
    return len(found)
