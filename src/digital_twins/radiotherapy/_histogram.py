"""Dose-volume histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.imaging import Dose, Mask, Structure, Volume, coverage, grid, resample

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DoseVolumeHistogram:
    """Dose of every part of a structure, without bins: doses in falling order with the volume of each.

    Attributes
    ----------
    dose_gy
        Dose of each part in gray, falling.
    volume_cm3
        Volume of each part in cubic centimetres.
    name
        Of the structure.
    outside_cm3
        Volume of the structure beyond the dose grid. It is left out: its dose is not known.
    """

    dose_gy: FloatArray
    volume_cm3: FloatArray
    name: str = ""
    outside_cm3: float = 0.0

    @property
    def total_cm3(self) -> float:
        """Volume of the structure inside the dose grid."""
        return float(self.volume_cm3.sum())

    @property
    def mean_gy(self) -> float:
        """Mean dose."""
        return float(self.dose_gy @ self.volume_cm3 / self.total_cm3)

    @property
    def maximum_gy(self) -> float:
        """Largest dose."""
        return float(self.dose_gy[0])

    @property
    def minimum_gy(self) -> float:
        """Smallest dose."""
        return float(self.dose_gy[-1])

    def dose_at_percent(self, percent: float) -> float:
        """D_x: least dose that the hottest ``percent`` of the volume receives, in gray (D95, D2 ...).

        Raises
        ------
        InputError
            When the percentage is not between 0 and 100.
        """
        if not 0.0 <= percent <= 100.0:
            raise InputError(
                f"D{percent:g} is no dose of a structure.", "It is out of range.", "Use 0 to 100 percent."
            )
        return self.dose_at_cm3(percent / 100.0 * self.total_cm3)

    def dose_at_cm3(self, volume_cm3: float) -> float:
        """Least dose that the hottest ``volume_cm3`` receive, in gray; the smallest where there is less."""
        reached = np.cumsum(self.volume_cm3)
        index = int(np.searchsorted(reached, volume_cm3 - 1e-9 * reached[-1]))
        return float(self.dose_gy[min(index, self.dose_gy.size - 1)])

    def volume_at_dose_cm3(self, dose_gy: float) -> float:
        """V_x: volume that receives at least ``dose_gy``."""
        return float(self.volume_cm3[self.dose_gy >= dose_gy].sum())

    def percent_at_dose(self, dose_gy: float) -> float:
        """V_x as a percentage of the structure's volume."""
        return 100.0 * self.volume_at_dose_cm3(dose_gy) / self.total_cm3

    def cumulative(self, dose_gy: ArrayLike) -> FloatArray:
        """Volume in cubic centimetres that receives at least each dose: the curve of the histogram."""
        rising = self.dose_gy[::-1]
        from_below = np.concatenate([np.cumsum(self.volume_cm3), [0.0]])
        hotter = self.dose_gy.size - np.searchsorted(
            rising, np.asarray(dose_gy, dtype=np.float64), side="left"
        )
        return np.where(hotter > 0, from_below[np.maximum(hotter, 1) - 1], 0.0)


def dose_volume_histogram(
    dose: Dose | Volume, structure: Structure | Mask, *, subdivide: int = 1
) -> DoseVolumeHistogram:
    """Return the histogram of a structure's dose.

    Each voxel of the dose grid counts by the part of it inside the structure, which is exact in the planes of
    contours, so that no volume is gained or lost at edges.

    Parameters
    ----------
    dose
        Dose, or volume in gray.
    structure
        Contours, or a mask on any grid of the same frame of reference.
    subdivide
        Cut the dose voxels into so many along each axis and interpolate the dose: for small structures in
        steep gradients.

    Raises
    ------
    InputError
        Another frame of reference (register first), or a structure that does not reach the dose grid.
    """
    volume = dose.volume if isinstance(dose, Dose) else dose
    name = structure.name if isinstance(structure, Structure) else structure.meaning.meaning
    if subdivide > 1:
        fine = grid(volume, spacing_mm=_divided(volume, subdivide))
        volume = resample(volume, fine, outside=0.0)
    share = structure.coverage(volume) if isinstance(structure, Structure) else coverage(structure, volume)
    inside = share.array > 1e-9
    if not inside.any():
        raise InputError(
            what="The structure does not reach the dose grid.",
            why="No voxel with a dose lies inside it.",
            fix="Check that structures and dose belong to the same plan.",
        )
    voxel_cm3 = volume.voxel_volume_mm3 / 1000.0
    doses = volume.array[inside].astype(np.float64)
    volumes = share.array[inside] * voxel_cm3
    order = np.argsort(-doses, kind="stable")
    outside = 0.0
    if isinstance(structure, Mask):
        outside = max(0.0, structure.volume_cm3 - float(volumes.sum()))
    return DoseVolumeHistogram(doses[order], volumes[order], name, outside)


def _divided(volume: Volume, parts: int) -> tuple[float, float, float]:
    slices, rows, columns = (spacing / parts for spacing in volume.spacing_mm)
    return slices, rows, columns
