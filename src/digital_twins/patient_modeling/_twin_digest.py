"""What decides a twin's predictions, as text and as a SHA-256."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digital_twins.calibration import Belief
    from digital_twins.patient_modeling._snapshot import Snapshot
    from digital_twins.records import Treatment


def content_digest(twin_id: str, snapshot: Snapshot) -> str:
    """SHA-256 over what determines a version's predictions (not over when it was made)."""
    content = [
        twin_id,
        snapshot.version,
        snapshot.belief.names,
        snapshot.belief.log_mean.tolist(),
        snapshot.belief.log_covariance.tolist(),
        *_sampled_content(snapshot.belief),
        [fingerprint(t) for t in snapshot.treatment_history],
        sorted(snapshot.provenance.inputs.items()),
    ]
    return digest_of(content)


def digest_of(content: Any) -> str:
    """SHA-256 of plain content as JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def fingerprint(treatment: Treatment) -> str:
    """What a treatment does, as text: two with the same doses on the same days are the same."""
    doses = [(d.day, d.dose_mg, d.duration_hours) for d in treatment.doses]
    fractions = [(f.day, f.dose_gy) for f in treatment.fractions]
    told: list[Any] = [treatment.kind, treatment.drug, doses, fractions, treatment.day]
    if treatment.radiation is not None or treatment.dose_map is not None:
        effect = {} if treatment.radiation is None else treatment.radiation.stated()
        told += [effect, None if treatment.dose_map is None else treatment.dose_map.digest()]
    cut = [treatment.margin_mm, treatment.extent_of_resection, treatment.resection]
    if any(part is not None for part in cut):
        told += cut
    return json.dumps(told, sort_keys=True)


def _sampled_content(belief: Belief) -> list[Any]:
    """Samples of a belief for its digest; nothing where there are none, so that older digests stay."""
    cloud = belief.particles
    return [] if cloud is None else [cloud.names, cloud.logs.tolist(), cloud.weights.tolist()]
