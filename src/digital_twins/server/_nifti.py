"""NIfTI files for the viewer: image, lesion and the predicted tumour over time."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def pack(array: NDArray[np.generic], affine_ras: NDArray[np.float64]) -> bytes:
    """Return gzipped NIfTI-1 bytes of an [x, y, z] or [x, y, z, t] array, world in RAS millimetres."""
    import nibabel

    image = nibabel.Nifti1Image(array, affine_ras)  # type: ignore[no-untyped-call]  # nibabel has no types
    return gzip.compress(image.to_bytes(), 3, mtime=0)


def one_frame(data: bytes, days: Sequence[float], day: float) -> bytes:
    """Return the frame of a 4-D file that belongs to `day`.

    Raises
    ------
    InputError
        There is no frame of that day.
    """
    import nibabel

    if day not in days:
        raise InputError(
            f"There is no predicted mask for day {day:g}.",
            "Masks are kept for the days that the twin lists as mask_days.",
            "Ask for one of those days, or leave `day` out for all of them.",
        )
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    return pack(np.asarray(image.dataobj)[..., list(days).index(day)], np.asarray(image.affine))
