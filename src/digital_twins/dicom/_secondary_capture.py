"""Secondary Capture (PS3.3 section A.8): a picture, e.g. a figure of a twin, as an image of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.dicom._documents import (
    DocumentIdentity,
    Software,
    as_utf8,
    copy_patient_and_study,
    instance_references,
    same_study,
    stamp,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_FEWEST, _MOST = 1, 16384


def secondary_capture(
    picture: NDArray[Any] | bytes,
    sources: Sequence[Dataset],
    *,
    identity: DocumentIdentity,
    software: Software,
    derivation: str = "",
) -> Dataset:
    """Return a picture as a Secondary Capture Image of the study that its source images belong to.

    Parameters
    ----------
    picture
        ``uint8`` array ``[row, column]`` (grey) or ``[row, column, 3]`` (RGB); or the bytes of a PNG or JPEG
        file, whose transparency is laid on white.
    sources
        Images that it was made from, of one study; patient and study are copied from the first.
    derivation
        Derivation Description (0008,2111), e.g. ``"PREDICTED, NOT ACQUIRED"``.

    Raises
    ------
    InputError
        Not such an array or file, or no source was given.
    ConflictError
        The sources are of different patients or studies.
    """
    import highdicom as hd

    pixels = _pixels(picture)
    source = as_utf8([same_study(sources)])[0]
    capture: Any = hd.sc.SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=identity.series_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.sop_uid,
        instance_number=identity.instance_number,
        manufacturer=software.manufacturer,
        patient_orientation=("L", "P"),
    )
    dataset: Dataset = capture
    copy_patient_and_study(source, dataset)
    stamp(dataset, identity, software)
    # A figure has no direction in the patient; the element is type 2C (PS3.3 section C.7.6.1).
    dataset.PatientOrientation = ""
    dataset.Laterality = ""
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES"
    dataset.SourceImageSequence = instance_references(sources)
    if derivation:
        dataset.DerivationDescription = derivation
    return dataset


def _pixels(picture: NDArray[Any] | bytes) -> NDArray[np.uint8]:
    array = _decode(picture) if isinstance(picture, bytes) else np.asarray(picture)
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not fits or not all(_FEWEST <= n <= _MOST for n in array.shape[:2]):
        raise InputError(
            "The picture cannot be captured.",
            "It is no uint8 array [row, column] or [row, column, 3] of 1 to 16384 pixels a side.",
            "Pass an 8-bit grey or RGB picture.",
        )
    return np.ascontiguousarray(array)


def _decode(data: bytes) -> NDArray[Any]:
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(data), formats=["PNG", "JPEG"])
        if image.mode == "L":
            return np.asarray(image)
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image.convert("RGBA"))
        return np.asarray(flat.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise InputError(
            "The picture cannot be captured.",
            "Its bytes are no whole PNG or JPEG file.",
            "Pass the bytes of a PNG or JPEG file, or an array.",
        ) from None
