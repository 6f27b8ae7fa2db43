"""What a treatment that acts by place, or by the size of the tumour, needs to know of the tumour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
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
