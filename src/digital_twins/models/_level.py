"""The volume that a density encloses above a threshold, finer than the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOPE_FLOOR = 1.0e-6


def volume_above_mm3(padded_density: NDArray[Any], threshold: float, *, voxel_volume_mm3: float) -> float:
    """Volume in mm3 where the density is above the threshold, moving smoothly as the front crosses voxels.

    A boundary voxel counts by the share that its local slope says, as for a plane front.

    Parameters
    ----------
    padded_density
        Three-dimensional density padded by one voxel on every side, as ``trajectory`` yields it.
    threshold
        Level in the density's unit.
    voxel_volume_mm3
        Volume of one voxel.
    """
    from digital_twins.models._level_kernels import level_volume

    return float(level_volume(padded_density, threshold, SLOPE_FLOOR)) * voxel_volume_mm3
