"""Several protocols side by side, on one ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.treatment_simulation._criteria import ResponseCategory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.treatment_simulation._response import Response


@dataclass(frozen=True, eq=False)
class ProtocolComparison:
    """A row a protocol, in the order given.

    Attributes
    ----------
    rows
        Each a dictionary: ``treatment``, ``volume_change_percent`` with ``_low`` and ``_high``,
        ``response_category``, ``response_probability`` and ``progression_probability`` at the horizon,
        ``median_days_to_progression`` (None: after the horizon), ``nadir_day`` since now and
        ``nadir_volume_cm3``, ``smaller_than_first``: the share of the ensemble whose tumour is smaller at the
        horizon than under the first protocol, and ``volume_ratio_to_first``, the median ratio of the two.
    criteria
        Criteria of the categories, in words.
    """

    rows: tuple[dict[str, Any], ...]
    criteria: str

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        names = list(self.rows[0])
        lines = [
            "| " + " | ".join(name.replace("_", " ") for name in names) + " |",
            "|---" * len(names) + "|",
        ]
        lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in self.rows]
        return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "after the horizon"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def compare_protocols(responses: Sequence[Response]) -> ProtocolComparison:
    """Lay responses of one twin side by side.

    Parameters
    ----------
    responses
        As :meth:`TreatmentSimulator.compare` returns them; the first is what the others are measured against.

    Raises
    ------
    InputError
        When there is none, or they stem from different ensembles, horizons or criteria.
    """
    if not responses:
        raise InputError(
            "There is no response to compare.", "The list is empty.", "Pass what compare() returns."
        )
    first = responses[0]
    rows = []
    for response in responses:
        same = (
            response.prediction.samples_cm3.shape == first.prediction.samples_cm3.shape
            and response.prediction.twin_id == first.prediction.twin_id
            and response.prediction.model_version == first.prediction.model_version
            and response.horizon_days == first.horizon_days
            and response.criteria == first.criteria
        )
        if not same:
            raise InputError(
                "The responses cannot be compared.",
                "They stem from different twins, ensembles, horizons or criteria.",
                "Simulate them together with TreatmentSimulator.compare.",
            )
        rows.append(_row(response, first))
    return ProtocolComparison(tuple(rows), first.criteria_label)


def _row(response: Response, first: Response) -> dict[str, Any]:
    final, reference = response.prediction.samples_cm3[:, -1], first.prediction.samples_cm3[:, -1]
    ratio = np.where(reference > 0.0, final / np.where(reference > 0.0, reference, 1.0), 1.0)
    return {
        "treatment": response.label,
        "volume_change_percent": response.volume_change_percent,
        "volume_change_low": response.volume_change_low,
        "volume_change_high": response.volume_change_high,
        "response_category": response.response_category.value,
        "response_probability": response.response_probability,
        "progression_probability": response.category_probabilities[ResponseCategory.PROGRESSIVE_DISEASE],
        "median_days_to_progression": response.time_to_progression.median,
        "nadir_day": response.nadir_day - response.prediction.origin_day,
        "nadir_volume_cm3": response.nadir_volume_cm3,
        "smaller_than_first": float(np.mean(final < reference)),
        "volume_ratio_to_first": float(np.median(ratio)),
    }
