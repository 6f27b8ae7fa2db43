"""How far a segmented volume may be from the true one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.patient_modeling._image_term import EDGE_SD_MM
from digital_twins.patient_modeling._priors import VOLUME_LOG_SD
from digital_twins.units import MM3_PER_CM3

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PATCH_MM2 = 150.0
"""Surface over which a reader errs alike: a piece of about 12 mm, an assumption."""


def volume_log_sd(volume_cm3: ArrayLike) -> NDArray[np.float64]:
    """Standard deviation of the logarithm of a segmented volume.

    A common factor of 10 %, and independent errors of the edge by pieces of the surface, which weigh more the
    smaller the lesion: ``sd^2 = 0.1^2 + s^2 A P / V^2`` with the edge's error s = 1 mm, pieces of P = 150 mm2
    and the surface A of a ball of the volume V. 0.10 at 50 cm3, 0.12 at 8 cm3, 0.23 at 1 cm3.
    """
    volume_mm3 = np.asarray(volume_cm3, dtype=np.float64) * MM3_PER_CM3
    surface_mm2 = np.cbrt(36.0 * np.pi * volume_mm3**2)
    edge = EDGE_SD_MM * np.sqrt(surface_mm2 * PATCH_MM2) / volume_mm3
    return np.asarray(np.hypot(VOLUME_LOG_SD, edge))
