"""A twin's versions: what changed between two of them, and new versions made from old ones."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins import __version__
from digital_twins._errors import NotFoundError
from digital_twins.patient_modeling._calibrate import volume_estimate
from digital_twins.patient_modeling._snapshot import Provenance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.calibration import Estimate
    from digital_twins.patient_modeling._calibrate import Calibrated
    from digital_twins.patient_modeling._scans import Visit
    from digital_twins.patient_modeling._snapshot import CalibrationResult, Snapshot
    from digital_twins.records import Treatment


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """One parameter in two versions.

    Attributes
    ----------
    before, after
        The estimates; None where a version does not have the parameter.
    ratio
        ``after`` over ``before``; 1 where one is missing.
    interval_ratio
        Width of the 95 % interval (of the logarithm) after over before: below 1 something was learnt. 1
        where an estimate is missing or held fixed.
    """

    name: str
    before: Estimate | None
    after: Estimate | None
    ratio: float
    interval_ratio: float


@dataclass(frozen=True, slots=True)
class VersionChanges:
    """What differs between two versions of a twin.

    Attributes
    ----------
    before, after
        Numbers of the versions.
    parameters
        Parameters whose estimate differs, in the order of the later version.
    visits_added, visits_removed
        Days of follow-up scans that only one of the versions was calibrated on.
    treatments_added, treatments_removed
        Labels of treatments that only one of them knows.
    volume_cm3
        Current volume of both.
    notes_added
        Provenance notes that the later one has and the earlier one has not.
    """

    before: int
    after: int
    parameters: tuple[ParameterChange, ...]
    visits_added: tuple[float, ...]
    visits_removed: tuple[float, ...]
    treatments_added: tuple[str, ...]
    treatments_removed: tuple[str, ...]
    volume_cm3: tuple[float, float]
    notes_added: tuple[str, ...]


def snapshot_of(history: Sequence[Snapshot], version: int) -> Snapshot:
    """Return one version.

    Raises
    ------
    NotFoundError
        When the twin has no such version.
    """
    found = [snapshot for snapshot in history if snapshot.version == version]
    if not found:
        known = ", ".join(str(snapshot.version) for snapshot in history)
        raise NotFoundError(
            f"The twin has no version {version}.", f"Its versions are {known}.", "Choose one of them."
        )
    return found[0]


def changes_between(before: Snapshot, after: Snapshot) -> VersionChanges:
    """Compare two versions."""
    old, new = before.belief.estimates(), after.belief.estimates()
    names = (*new, *(name for name in old if name not in new))
    pairs = ((name, old.get(name), new.get(name)) for name in names)
    seen_before, seen_after = ({v.digest: v.day for v in s.visits} for s in (before, after))
    given_before = [t.label for t in before.treatment_history]
    given_after = [t.label for t in after.treatment_history]
    return VersionChanges(
        before=before.version,
        after=after.version,
        parameters=tuple(_parameter(*pair) for pair in pairs if pair[1] != pair[2]),
        visits_added=tuple(day for key, day in seen_after.items() if key not in seen_before),
        visits_removed=tuple(day for key, day in seen_before.items() if key not in seen_after),
        treatments_added=_more(given_after, given_before),
        treatments_removed=_more(given_before, given_after),
        volume_cm3=(before.current_volume_cm3.value, after.current_volume_cm3.value),
        notes_added=tuple(n for n in after.provenance.notes if n not in before.provenance.notes),
    )


def renewed(snapshot: Snapshot, version: int, note: str) -> Snapshot:
    """Return a new version with the content of an old one, which becomes its parent."""
    provenance = replace(
        snapshot.provenance,
        software_version=__version__,
        parent_version=snapshot.version,
        notes=(*snapshot.provenance.notes, note),
    )
    return replace(snapshot, version=version, created_utc=datetime.now(tz=UTC), provenance=provenance)


def branch_id(twin_id: str, version: int, name: str) -> str:
    """Identifier of a branch: the same twin, version and name, the same identifier."""
    return str(uuid.uuid5(uuid.UUID(twin_id), f"branch/{version}/{name}"))


def _parameter(name: str, before: Estimate | None, after: Estimate | None) -> ParameterChange:
    if before is None or after is None:
        return ParameterChange(name, before, after, 1.0, 1.0)
    widths = [math.log(e.high / e.low) if e.low > 0.0 else 0.0 for e in (before, after)]
    narrower = widths[1] / widths[0] if widths[0] > 0.0 else 1.0
    return ParameterChange(name, before, after, after.value / before.value, narrower)


def _more(these: Sequence[str], those: Sequence[str]) -> tuple[str, ...]:
    """Return entries of ``these`` beyond those that ``those`` holds too, counting repeats."""
    left = list(those)
    extra = []
    for label in these:
        if label in left:
            left.remove(label)
        else:
            extra.append(label)
    return tuple(extra)


def calibrated(
    before: Snapshot,
    found: Calibrated,
    result: CalibrationResult,
    *,
    visits: tuple[Visit, ...],
    treatments: tuple[Treatment, ...],
) -> Snapshot:
    """Return the version that a calibration or assimilation makes of the one before."""
    return replace(
        before,
        version=result.version,
        created_utc=datetime.now(tz=UTC),
        belief=found.belief,
        visits=visits,
        treatment_history=treatments,
        current_volume_cm3=volume_estimate(
            result.modelled_cm3[-1], found.volume_log_sd, source="modelled on the last visit's day"
        ),
        calibration=result,
    )


def with_provenance(made: Snapshot, before: Snapshot, *, notes: Sequence[str], seed: int) -> Snapshot:
    """Return a calibrated version with the content of its scans, what was assumed, and its parent."""
    scans = {f"scan_day_{visit.day:g}": visit.digest for visit in made.visits}
    images = {f"{i.kind}_day_{visit.day:g}": i.digest for visit in made.visits for i in visit.images}
    assumed = [f"{t.label}: {text}" for t in made.treatment_history for text in t.assumptions]
    provenance = Provenance(
        inputs={**before.provenance.inputs, **scans, **images},
        software_version=__version__,
        seed=seed,
        parent_version=before.version,
        notes=tuple(dict.fromkeys((*before.provenance.notes, *notes, *assumed))),
    )
    return replace(made, provenance=provenance)
