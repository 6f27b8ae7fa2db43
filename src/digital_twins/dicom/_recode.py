"""Whole objects in another transfer syntax than the stored one (PS3.18 section 8.7.3.5)."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from digital_twins.dicom._accept import NotAcceptableError
from digital_twins.dicom._contexts import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, NATIVE
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from pydicom.dataset import Dataset

RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_COMPRESSED = frozenset({RLE_LOSSLESS, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS})
TARGETS = frozenset({IMPLICIT_LE, EXPLICIT_LE}) | _COMPRESSED
"""What objects can be turned into; all of them lossless."""


def recode(source: Path | BinaryIO, target: str) -> bytes:
    """Return a stored DICOM file in the transfer syntax ``target``, its SOP Instance UID unchanged.

    An object without pixels asked for in a compressed syntax comes in Explicit VR Little Endian.

    Raises
    ------
    NotAcceptableError
        The target is not offered, or the pixels cannot be decoded or encoded.
    """
    if target not in TARGETS:
        raise _cannot("That transfer syntax is not offered.")
    from pydicom import dcmread, dcmwrite

    try:
        with quiet_pydicom():
            dataset = dcmread(source)
            _convert(dataset, target)
            buffer = BytesIO()
            # Not save_as, which refuses another byte order: _convert has swapped what pydicom does not.
            dcmwrite(buffer, dataset, enforce_file_format=True)
    except Exception as error:  # noqa: BLE001  (edge: codecs raise many kinds on foreign pixel data)
        raise _cannot(f"The codec raised {type(error).__name__}.") from None
    return buffer.getvalue()


def _convert(dataset: Dataset, target: str) -> None:
    from pydicom.uid import UID

    stored = str(dataset.file_meta.TransferSyntaxUID)
    if stored not in NATIVE and "PixelData" in dataset:
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    if stored == EXPLICIT_BE:
        for element in dataset.iterall():
            if (width := _WORD_BYTES.get(str(element.VR), 1)) > 1 and isinstance(element.value, bytes):
                element.value = _swapped(element.value, width)
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LE)
    if target in _COMPRESSED and "PixelData" in dataset:
        plugin = "pydicom" if target == RLE_LOSSLESS else ""
        dataset.compress(target, generate_instance_uid=False, encoding_plugin=plugin)
    elif target == IMPLICIT_LE:
        dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT_LE)


def _swapped(data: bytes, width: int) -> bytes:
    """Return binary words in the other byte order; pydicom keeps them as they came (PS3.5 section 7.3)."""
    swapped = bytearray(len(data))
    for byte in range(width):
        swapped[byte::width] = data[width - 1 - byte :: width]
    return bytes(swapped)


def _cannot(why: str) -> NotAcceptableError:
    return NotAcceptableError(
        "The object cannot be given in that transfer syntax.",
        why,
        "Accept transfer-syntax=*, which gives it as it is stored.",
    )
