"""Principal axes of a covariance with signs that do not depend on the machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

FloatArray = NDArray[np.float64]


def principal_axes(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the variances along a covariance's principal axes, smallest first, and the axes as columns.

    An eigenvector's sign is free, and linear algebra libraries choose it differently from processor to
    processor: a draw along the axes would then differ too. Here the first component of an axis that is not
    small beside its largest is positive.

    Parameters
    ----------
    covariance
        [state, state], symmetric.
    """
    variances, axes = np.linalg.eigh(covariance)
    size = np.abs(axes)
    first = np.argmax(size > 0.1 * size.max(axis=0), axis=0)
    sign = np.where(axes[first, np.arange(axes.shape[1])] < 0.0, -1.0, 1.0)
    return np.maximum(variances, 0.0), axes * sign


def covariance_root(covariance: FloatArray) -> FloatArray:
    """Return R with ``R @ R.T`` the covariance: principal axes, each one standard deviation long.

    Components that are independent of each other have axes of their own: among equal variances a library
    would otherwise be free to turn them.
    """
    root = np.zeros_like(covariance)
    count, block = connected_components(covariance != 0.0, directed=False)
    for each in range(count):
        where = np.flatnonzero(block == each)
        variances, axes = principal_axes(covariance[np.ix_(where, where)])
        root[np.ix_(where, where)] = axes * np.sqrt(variances)
    return root
