"""The place of a freshly built twin among the stored versions of the same twin."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin, Snapshot, TwinRegistry


def settle(registry: TwinRegistry, fresh: PatientTwin) -> PatientTwin:
    """Store a built twin as the next version, or return the stored one when nothing has changed.

    A twin's id follows from its baseline. A build always starts from the priors and takes every visit, so its
    last snapshot is what a further calibration of the stored twin would give; it is appended under the next
    number and the stored history stays as it is. Running this again after a crash finds the version stored,
    and the twin comes back as it was stored: both runs write the same documents to the last byte.
    """
    stored = registry.versions(fresh.twin_id)
    if not stored:
        for count in range(1, len(fresh.history) + 1):
            registry.save(_with_history(fresh, fresh.history[:count]))
        return registry.load(fresh.twin_id)
    latest = registry.load(fresh.twin_id)
    if _numbered(fresh, latest, latest.version).content_digest == latest.content_digest:
        return latest
    made = _numbered(fresh, latest, latest.version + 1)
    registry.save(made)
    return registry.load(fresh.twin_id)


def _numbered(fresh: PatientTwin, latest: PatientTwin, version: int) -> PatientTwin:
    before = tuple(s for s in latest.history if s.version < version)
    parent = before[-1].version if before else None
    last = fresh.snapshot
    snapshot = replace(
        last,
        version=version,
        provenance=replace(last.provenance, parent_version=parent),
        calibration=None if last.calibration is None else replace(last.calibration, version=version),
    )
    return _with_history(fresh, (*before, snapshot))


def _with_history(twin: PatientTwin, history: tuple[Snapshot, ...]) -> PatientTwin:
    made = copy.copy(twin)
    made.history = history
    return made
