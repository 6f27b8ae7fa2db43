"""What a treatment that acts by place, or by the size of the tumour, needs to know of the tumour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.patient_modeling._geometry import signed_distance_mm
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask


@dataclass(frozen=True, eq=False)
class TumourContext:
    """The tumour on the day of a treatment.

    Attributes
    ----------
    domain
        Where cells can live, on the model grid: geometry and frame of reference of everything placed on it.
    distance_mm
        Signed distance to the edge of the visible lesion in millimetres, positive inside, on the model grid.
    burden_cm3
        Tumour cells as the volume that they fill at carrying capacity, in cm3.
    """

    domain: Mask
    distance_mm: NDArray[np.float32]
    burden_cm3: float


def required(context: TumourContext | None, needed_for: str) -> TumourContext:
    """Return the context.

    Raises
    ------
    InputError
        When there is none.
    """
    if context is None:
        raise InputError(
            f"There is no tumour in space to simulate {needed_for} on.",
            "Its effect depends on where the tumour is, or how large it is.",
            "Simulate it on a patient's twin.",
        )
    return context


def parameter(parameters: Mapping[str, float], name: str, needed_for: str) -> float:
    """Return a sensitivity.

    Raises
    ------
    InputError
        When it is missing, negative or not finite.
    """
    if name not in parameters:
        raise InputError(
            f"The parameter '{name}' is missing.",
            f"It is needed to simulate {needed_for}.",
            f"Give '{name}' among the parameters.",
        )
    value = float(parameters[name])
    if not 0.0 <= value < float("inf"):
        raise InputError(
            f"The parameter '{name}' is {value:g}.",
            "A sensitivity is a finite number and not negative.",
            "Calibrate again, or correct the parameter.",
        )
    return value


def tumour_context(domain: Mask, padded_density: NDArray[Any], threshold: float) -> TumourContext:
    """Describe the tumour whose density, padded by one voxel, is given; visible above the threshold."""
    density = np.asarray(padded_density, dtype=np.float64)
    inner = density[1:-1, 1:-1, 1:-1]
    slopes = [
        0.5 * (np.roll(density, -1, axis) - np.roll(density, 1, axis))[1:-1, 1:-1, 1:-1] for axis in range(3)
    ]
    slope = np.sqrt(sum(part**2 for part in slopes)) + 1e-6
    share = np.where(domain.array, np.clip(0.5 + (inner - threshold) / slope, 0.0, 1.0), 0.0)
    share[inner <= 0.0] = 0.0
    if share.max() < 0.5:
        distance = np.full(inner.shape, -np.inf, dtype=np.float32)
    else:
        distance = signed_distance_mm(share, min(domain.spacing_mm))
    return TumourContext(domain, distance, float(inner.sum()) * domain.voxel_volume_mm3 / MM3_PER_CM3)
