"""A resection mask on the model grid, packed into text so that a treatment stays plain data."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import coverage, load_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.imaging import Mask
    from digital_twins.records import Treatment


def encoded(inside: NDArray[np.bool_]) -> str:
    """Return a boolean array as text."""
    return base64.b85encode(zlib.compress(np.packbits(inside).tobytes(), 9)).decode("ascii")


def decoded(text: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return what :func:`encoded` took.

    Raises
    ------
    InputError
        When it is not a mask of this grid.
    """
    count = int(np.prod(shape))
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b85decode(text), (count + 7) // 8 + 1)
    except (ValueError, zlib.error) as error:
        raise _unusable("It cannot be read.") from error
    if len(content) != (count + 7) // 8:
        raise _unusable("It belongs to a grid of another size.")
    return np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=count).reshape(shape).astype(bool)


def on_grid(treatment: Treatment, domain: Mask) -> Treatment:
    """Bring a surgery's ``resection_mask`` to the model grid: voxels at least half covered.

    Other treatments, and a mask that is there already, pass through.

    Raises
    ------
    InputError
        When the mask cannot be read, is of another frame of reference, or nothing of it is on the grid.
    """
    source = treatment.as_given.get("resection_mask")
    if treatment.kind != "surgery" or source is None or treatment.resection is not None:
        return treatment
    mask = load_mask(source)
    inside = coverage(mask, domain).array >= 0.5
    if not inside.any():
        raise _unusable("Nothing of it lies inside the box that the model covers.")
    given = {**treatment.as_given, "resection_mask": f"sha256:{mask.digest}"}
    return replace(treatment, resection=encoded(inside), as_given=given)


def _unusable(why: str) -> InputError:
    return InputError(
        "A resection mask cannot be used.", why, "Give a mask in the frame of reference of the baseline scan."
    )
