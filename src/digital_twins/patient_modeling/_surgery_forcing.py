"""Surgery as a survival map: nothing is left where tissue was taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.models import Forcing, SurvivalMap
from digital_twins.patient_modeling._context import required
from digital_twins.patient_modeling._resection import decoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment


def surgery_forcing(
    treatment: Treatment, parameters: Mapping[str, float], context: TumourContext | None
) -> Forcing:
    """Return the jump of a resection; what grows beyond its edge stays.

    A resection mask, or else all within ``margin_mm`` of the visible lesion on that day, or else the central
    part of the lesion that ``extent_of_resection`` names, or else the visible lesion. Edge voxels survive
    by the share that lies outside.

    Raises
    ------
    InputError
        Without a context, or when a resection mask is not on the model grid.
    """
    tumour = required(context, "surgery")
    day = treatment.day or 0.0
    return Forcing(survival_maps=(SurvivalMap(day, 1.0 - removed_share(treatment, tumour)),))


def removed_share(treatment: Treatment, tumour: TumourContext) -> NDArray[np.float64]:
    """Share of each voxel that a surgery takes out, 0..1, on the model grid."""
    if treatment.resection is not None:
        return decoded(treatment.resection, tumour.domain.shape).astype(np.float64)
    if "resection_mask" in treatment.as_given:
        raise InputError(
            "A resection mask is not on the model grid yet.",
            "Only the patient's twin knows the grid.",
            "Hand the treatment to the twin or its simulator.",
        )
    distance = tumour.distance_mm.astype(np.float64)
    if not np.any(distance > 0.0):
        return np.zeros(distance.shape)
    spacing = min(tumour.domain.spacing_mm)
    if treatment.extent_of_resection is not None:
        return _central_part(distance, treatment.extent_of_resection, spacing)
    return within_margin(distance, treatment.margin_mm or 0.0, spacing)


def within_margin(
    distance_mm: NDArray[np.float64], margin_mm: float, spacing_mm: float
) -> NDArray[np.float64]:
    """Share of each voxel nearer to the lesion than a margin, linear across one voxel."""
    return np.clip(0.5 + (distance_mm + margin_mm) / spacing_mm, 0.0, 1.0)


def _central_part(distance_mm: NDArray[np.float64], extent: float, spacing_mm: float) -> NDArray[np.float64]:
    """The innermost part of the lesion that makes up ``extent`` of its volume."""
    wanted = extent * within_margin(distance_mm, 0.0, spacing_mm).sum()
    low, high = -float(distance_mm.max()) - spacing_mm, 0.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if within_margin(distance_mm, middle, spacing_mm).sum() < wanted:
            low = middle
        else:
            high = middle
    return within_margin(distance_mm, high, spacing_mm)
