"""The enhancing part of a brain lesion from T1 with and without contrast: a first outline, not a reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from digital_twins._errors import InputError
from digital_twins.imaging._resample import refuse_other_frame
from digital_twins.imaging._volume import Mask, Volume, as_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BACKGROUND = 0.1
_SMALLEST_CM3 = 0.05
ENHANCEMENT_RULE = (
    "automatic: contrast enhancement (T1 with contrast minus T1, scaled) above {sds:g} robust standard "
    "deviations, largest connected part to half of its enhancement, holes filled; not reviewed by a reader"
)


def enhancing_lesion(t1: Volume, t1ce: Volume, *, sds: float = 4.0) -> Mask:
    """Outline the largest enhancing region by thresholding the subtraction ``t1ce - a t1``.

    ``a`` is the median ratio of both images inside the head, so that a different receiver gain falls out; the
    difference is smoothed over one pixel in the plane. The largest connected part of what lies more than
    ``sds`` robust standard deviations (1.4826 times the median absolute deviation) above its median is the
    lesion; its edge runs at half of the enhancement inside, and its holes (a necrotic core) are filled.

    This is a documented rule and no reader: vessels, meninges and choroid plexus enhance too, a lesion
    that does not enhance is not found, and both images must be registered. Treat the outline as a proposal.

    Parameters
    ----------
    t1, t1ce
        Before and after contrast, on the same grid.
    sds
        Threshold in robust standard deviations of the difference.

    Raises
    ------
    InputError
        The grids differ, or nothing of at least 0.05 cm3 enhances.
    """
    refuse_other_frame(t1, t1ce)
    if not t1.same_grid(t1ce):
        raise InputError(
            "The two T1 images lie on different grids.",
            "A subtraction needs the same voxels in both.",
            "Resample one onto the other: imaging.resample(t1, t1ce).",
        )
    before, after = t1.array.astype(np.float32), t1ce.array.astype(np.float32)
    head = _head(before) & _head(after)
    if not head.any():
        raise _nothing("One of the images is empty.")
    gain = float(np.median(after[head] / np.maximum(before[head], 1e-6)))
    # in the plane only: slices are often several times thicker than pixels are wide
    difference = ndimage.gaussian_filter(after - gain * before, (0.0, 0.7, 0.7))
    middle = float(np.median(difference[head]))
    spread = 1.4826 * float(np.median(np.abs(difference[head] - middle)))
    noise = middle + sds * max(spread, 1e-6 * float(np.ptp(after)))
    seed = _largest(head & (difference > noise))
    if seed is None:
        raise _nothing("No voxel of the subtraction lies above the threshold.")
    inside = difference[seed]
    full = float(np.median(inside[inside >= np.median(inside)]))
    edge = max(noise, middle + 0.5 * (full - middle))
    part = _largest(seed & (difference > edge))
    lesion = as_mask(t1ce, _filled(seed if part is None else part))
    if lesion.volume_cm3 < _SMALLEST_CM3:
        raise _nothing(f"The largest enhancing part has {lesion.volume_cm3:.3f} cm3.")
    return lesion


def _head(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    dark, bright = np.percentile(array, (0.5, 99.0))
    return np.asarray(array > dark + _BACKGROUND * (bright - dark))


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    labels, count = ndimage.label(mask)
    return None if not count else np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes slice by slice, for a thick-slice core is often open at one end."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def _nothing(why: str) -> InputError:
    return InputError(
        "No enhancing lesion was found.",
        why,
        "Give a segmentation (a DICOM SEG beside the images, or segmentation_path=...).",
    )
