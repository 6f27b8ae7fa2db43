"""Takes every version of a patient's resources out of the store, inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.fhir._owner import of_patients, patient_owner, patients_in
from digital_twins.fhir._schema import INDEX_TABLES
from digital_twins.fhir._words import TEXT_TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

_AT_ONCE = 500
"""Rows of one DELETE: no index begins with the resource, so each reads its table once."""


@dataclass(frozen=True, slots=True)
class FhirFootprint:
    """What the store holds of a patient.

    Attributes
    ----------
    patients
        Patient resources, ``Patient/<id>``, that carry the identifier.
    rids
        Rows of all resources that go, deleted ones and those with an older version of the patient too.
    references
        These resources as ``Type/id``.
    shared
        Resources that name other patients too (a Group, a List): they stay.
    last_updated_us
        When the newest of them was written, microseconds since 1970-01-01 UTC; 0: there is none.
    """

    patients: tuple[str, ...]
    rids: tuple[int, ...]
    references: tuple[str, ...]
    shared: tuple[str, ...]
    last_updated_us: int

    @property
    def owners(self) -> tuple[str, ...]:
        """The owners whose keys the resources of these patients lie under in an encrypted store."""
        return tuple(patient_owner(each) for each in self.patients)


def fhir_footprint(cursor: apsw.Cursor, patient_ids: Sequence[str]) -> FhirFootprint:
    """Return the resources of patients that carry one of the identifiers, in any version that is stored.

    Every version of the store is read once: that is seconds for a million of them, and finds what the index
    does not know any more.
    """
    mine = {f"Patient/{name}" for name in _patients(cursor, patient_ids)}
    found: dict[int, str] = {}
    shared: dict[int, str] = {}
    newest = 0
    rows: Any = cursor.execute(
        "SELECT r.rid, r.type, r.id, r.updated, r.body FROM fhir_resource r UNION ALL"
        " SELECT v.rid, r.type, r.id, v.updated, v.body FROM fhir_version v"
        " JOIN fhir_resource r ON r.rid = v.rid"
    )
    for rid, kind, name, updated, body in rows:
        place = f"{kind}/{name}"
        if kind == "Patient":
            named, whole = {place} & mine, True
        elif of_patients(kind):
            named = patients_in(bytes(body))
            whole = named <= mine
            named &= mine
        else:
            continue
        if named:
            (found if whole else shared)[rid] = place
            newest = max(newest, updated)
    for rid in shared:
        found.pop(rid, None)
    return FhirFootprint(
        tuple(sorted(mine)), tuple(found), tuple(found.values()), tuple(shared.values()), newest
    )


def erase_fhir_in(cursor: apsw.Cursor, footprint: FhirFootprint) -> None:
    """Remove the rows of a footprint: resources, their versions and what the search index has of them."""
    for start in range(0, len(footprint.rids), _AT_ONCE):
        rids = footprint.rids[start : start + _AT_ONCE]
        marks = ",".join("?" * len(rids))
        for table in (*INDEX_TABLES, *TEXT_TABLES, "fhir_version", "fhir_resource"):
            cursor.execute(f"DELETE FROM {table} WHERE rid IN ({marks})", rids)  # noqa: S608  (names of ours)  # nosec B608


def _patients(cursor: apsw.Cursor, patient_ids: Sequence[str]) -> set[str]:
    """Return ids of Patient resources that carry an identifier, or carried it in an older version."""
    found = set()
    rows: Any = cursor.execute(
        "SELECT r.id, r.body FROM fhir_resource r WHERE r.type = 'Patient' UNION ALL"
        " SELECT r.id, v.body FROM fhir_version v JOIN fhir_resource r ON r.rid = v.rid"
        " WHERE r.type = 'Patient'"
    )
    for name, body in rows:
        content = bytes(body)
        identifiers = orjson.loads(content).get("identifier", ()) if content else ()
        if any(each.get("value") in patient_ids for each in identifiers):
            found.add(str(name))
    return found
