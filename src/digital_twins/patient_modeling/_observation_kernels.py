"""Compiled comparison of a density with what images show."""

from __future__ import annotations

import numpy as np

from digital_twins._compiled import jit


@jit
def patch_volumes(density, patch, threshold, volumes):  # type: ignore[no-untyped-def]
    """Add to ``volumes[p]`` the voxels (fractional) of each patch p that lie above ``threshold``.

    ``density`` is padded by one voxel, ``patch`` is not and holds the patch of every voxel. A boundary voxel
    counts by the share that its local slope says, as in :func:`digital_twins.models.volume_above_mm3`.
    """
    nz, ny, nx = patch.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                v = density[z + 1, y + 1, x + 1]
                if v <= 0.0:
                    continue
                dz = density[z + 2, y + 1, x + 1] - density[z, y + 1, x + 1]
                dy = density[z + 1, y + 2, x + 1] - density[z + 1, y, x + 1]
                dx = density[z + 1, y + 1, x + 2] - density[z + 1, y + 1, x]
                slope = 1.0e-6 + 0.5 * np.sqrt(dz * dz + dy * dy + dx * dx)
                share = 0.5 + (v - threshold) / slope
                if share > 0.0:
                    volumes[patch[z, y, x]] += min(1.0, share)
