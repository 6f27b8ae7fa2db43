"""Refusals that every loader shares, each with what, why and fix."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import DigitalTwinError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

MAX_VOXELS = 2**30
"""Largest image that is decoded: a 512 x 512 series of 4,096 slices."""


@contextmanager
def foreign(kind: str) -> Iterator[None]:
    """The one boundary of this room to foreign bytes: whatever a parser raises becomes an InputError.

    Libraries raise classes of their own on damaged input (pydicom's BytesLengthException, zlib.error), which
    no list can hope to be complete about. Parsers' warnings are dropped.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DigitalTwinError:
        raise
    except Exception as error:  # noqa: BLE001  (a boundary to foreign bytes, see above)
        raise _damaged(kind, error) from None


def refuse_size(shape: Iterable[int]) -> None:
    """Refuse an image whose header announces no voxels or more than ``MAX_VOXELS``."""
    sizes = [int(n) for n in shape]
    if min(sizes, default=0) < 1 or math.prod(sizes) > MAX_VOXELS:
        raise InputError(
            what=f"The image announces the size {' x '.join(map(str, sizes))}.",
            why=f"Sizes must be positive and at most {MAX_VOXELS} voxels in all are decoded.",
            fix="Check that the file is intact; crop or resample a genuinely larger image first.",
        )


def refuse_not_finite(array: NDArray[Any]) -> None:
    """Refuse NaN and infinite voxels."""
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
        raise InputError(
            what=f"{bad} voxels of the image are not numbers (NaN or infinite).",
            why="Every computation on them would be NaN, silently.",
            fix="Repair or crop the image; replace NaN outside the scan with the value of air.",
        )


def _damaged(kind: str, error: BaseException) -> InputError:
    """Return the error for unreadable bytes, without the parser's own text: it may hold patient data."""
    return InputError(
        what=f"The {kind} cannot be read.",
        why=f"Its bytes are damaged, truncated or not in that format ({type(error).__name__}).",
        fix="Transfer the file again from its source and check that it opens there.",
    )
