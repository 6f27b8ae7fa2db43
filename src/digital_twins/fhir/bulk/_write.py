"""Writing the files of one export from the tables, as they stood at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.fhir._compartment import compartment_numbers
from digital_twins.fhir._index import index_rows
from digital_twins.fhir._json import dumps
from digital_twins.fhir._outcome import Issue, outcome
from digital_twins.fhir._write import now_us
from digital_twins.fhir.bulk._files import NdjsonFiles, cut_to
from digital_twins.fhir.bulk._selection import RowSet, compartments, filtered, patients_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from digital_twins.fhir._package_search import Extra
    from digital_twins.fhir.bulk._request import ExportRequest
    from digital_twins.storage import Database, SealedFiles

_PAGE = 500
_COLUMNS = "rid, type, id, updated, deleted, version, body"


@dataclass(frozen=True, slots=True)
class _Row:
    rid: int
    type: str
    id: str
    updated: int
    deleted: int
    version: int
    body: bytes


def export_moment(database: Database) -> int:
    """Return a moment up to which every change is visible and after which none is (``transactionTime``).

    It is taken inside a write transaction, one millisecond back: what was changed until then is committed,
    and whatever comes later carries a later time.
    """
    time.sleep(0.002)
    return database.write(lambda _: now_us()) - 1000


def write_export(
    database: Database,
    request: ExportRequest,
    folder: Path,
    progress: Callable[[float, str], None],
    *,
    files: SealedFiles | None = None,
    extra: Extra | None = None,
) -> dict[str, Any]:
    """Write the files and return ``{"at_us", "output", "deleted", "error"}`` for the manifest.

    Memory holds one page of resources and one bit for each row, whatever is exported.

    Parameters
    ----------
    database
        Of the store.
    request
        What is asked for.
    folder
        Where the files go.
    progress
        Called with a fraction in 0..1 and a short text; what it raises ends the export.
    files
        Opens the files; by default they are in clear.
    extra
        Search parameters of packages.
    """
    work = _Export(database, request, NdjsonFiles(folder, files=files), progress)
    work.extra = extra
    try:
        return work.run()
    finally:
        work.files.close()


class _Export:
    def __init__(
        self,
        database: Database,
        request: ExportRequest,
        files: NdjsonFiles,
        progress: Callable[[float, str], None],
    ) -> None:
        self.database = database
        self.request = request
        self.files = files
        self.progress = progress
        self.extra: Extra | None = None
        self.types = frozenset(request.exported_types)
        self.count = 0
        self.last_tick = 0.0

    def run(self) -> dict[str, Any]:
        at_us = export_moment(self.database)
        self.until_us = min(at_us, self.request.until_us or at_us)
        self.progress(0.01, "choosing resources")
        self.filters = filtered(self.database, self.request, self.tick, self.extra)
        self.own: RowSet | None = None
        self.patients: frozenset[str] | None = None
        if self.request.level == "group" or self.request.patients:
            self.patients = frozenset(patients_of(self.database, self.request))
            self.own = compartments(self.database, self.patients, self.tick)
        elif self.request.level == "patient":
            self.own = compartments(self.database, patients_of(self.database, self.request), self.tick)
        for fraction, row in self.rows():
            self.take(row, fraction)
        for row in self.removed_later():
            self.take(row, 0.95)
        if self.request.since_us is not None:
            self.write_deletions(self.request.since_us)
        for text in self.request.skipped:
            issue = Issue("not-supported", text, severity="warning")
            self.files.write("OperationOutcome", dumps(outcome([issue])), output="error")
        return {"at_us": at_us, **{name: self.files.of(name) for name in ("output", "deleted", "error")}}

    def tick(self) -> None:
        """Tell progress, and hear of a cancellation, about twice a second."""
        if time.monotonic() - self.last_tick > 0.5:
            self.last_tick = time.monotonic()
            self.progress(0.02, "choosing resources")

    def rows(self) -> Iterator[tuple[float, _Row]]:
        """Yield what may be exported, with how far the work is."""
        if self.own is None:
            kinds = self.request.exported_types
            for number, kind in enumerate(kinds):
                yield from ((0.05 + 0.9 * number / len(kinds), row) for row in self.rows_of_type(kind))
            return
        numbers = iter(self.own)
        while part := list(islice(numbers, _PAGE)):
            marks = ",".join("?" * len(part))
            text = f"SELECT {_COLUMNS} FROM fhir_resource WHERE rid IN ({marks}) AND deleted=0"  # noqa: S608  (question marks only)  # nosec B608
            with self.database.read() as connection:
                found = [_Row(*row) for row in connection.execute(text, part).fetchall()]  # type: ignore[arg-type]
            yield from ((0.5, row) for row in found)

    def rows_of_type(self, kind: str) -> Iterator[_Row]:
        last = -1
        text = (
            f"SELECT {_COLUMNS} FROM fhir_resource WHERE type=? AND deleted=0 AND rid>?"  # noqa: S608  (names of ours)  # nosec B608
            f" ORDER BY rid LIMIT {_PAGE}"
        )
        while True:
            with self.database.read() as connection:
                found = [_Row(*row) for row in connection.execute(text, (kind, last)).fetchall()]  # type: ignore[arg-type]
            if not found:
                return
            yield from found
            last = found[-1].rid

    def removed_later(self) -> Iterator[_Row]:
        """Yield what was deleted while the export ran."""
        text = f"SELECT {_COLUMNS} FROM fhir_resource WHERE deleted=1 AND updated>?"  # noqa: S608  (names of ours)  # nosec B608
        with self.database.read() as connection:
            found = [_Row(*row) for row in connection.execute(text, (self.until_us,)).fetchall()]  # type: ignore[arg-type]
        yield from (row for row in found if self.own is None or self.belonged(row))

    def take(self, row: _Row, fraction: float) -> None:
        """Write a resource as it stood at the moment of the export, if it is asked for."""
        if row.type not in self.types or (row.type in self.filters and row.rid not in self.filters[row.type]):
            return
        updated, body = row.updated, row.body
        if updated > self.until_us:
            updated, body = self.earlier(row.rid)
        if not body or (self.request.since_us is not None and updated <= self.request.since_us):
            return
        if self.request.elements:
            body = cut_to(body, row.type, self.request.elements)
        self.files.write(row.type, body)
        self.count += 1
        if time.monotonic() - self.last_tick > 0.5:
            self.last_tick = time.monotonic()
            self.progress(fraction, f"{self.count} resources")

    def earlier(self, rid: int) -> tuple[int, bytes]:
        """Return the version that stood at the moment; an empty one when there was none."""
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT updated, body FROM fhir_version WHERE rid=? AND updated<=?"
                " ORDER BY version DESC LIMIT 1",
                (rid, self.until_us),
            ).fetchone()
        return (0, b"") if row is None else (int(str(row[0])), bytes(row[1]))

    def belonged(self, row: _Row) -> bool:
        """Whether a deleted resource was one of the patients' when it was last there."""
        if row.type == "Patient":
            return self.patients is None or row.id in self.patients
        with self.database.read() as connection:
            found = connection.execute(
                "SELECT body FROM fhir_version WHERE rid=? AND deleted=0 ORDER BY version DESC LIMIT 1",
                (row.rid,),
            ).fetchone()
        if found is None:
            return False
        numbers = frozenset(compartment_numbers())
        return any(
            number in numbers
            and str(target).startswith("Patient/")
            and (self.patients is None or str(target)[8:] in self.patients)
            for number, target in index_rows(orjson.loads(bytes(found[0]))).reference
        )

    def write_deletions(self, since_us: int) -> None:
        """Write a transaction Bundle with a DELETE for each resource deleted since then."""
        text = (
            f"SELECT {_COLUMNS} FROM fhir_resource WHERE deleted=1 AND updated>? AND updated<=? ORDER BY rid"  # noqa: S608  (names of ours)  # nosec B608
        )
        with self.database.read() as connection:
            rows = [_Row(*row) for row in connection.execute(text, (since_us, self.until_us)).fetchall()]  # type: ignore[arg-type]
        for row in rows:
            if row.type in self.types and (self.own is None or self.belonged(row)):
                entry = {"request": {"method": "DELETE", "url": f"{row.type}/{row.id}"}}
                bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
                self.files.write("Bundle", dumps(bundle), output="deleted")
