"""Other encodings of a stored object, where nothing is lost by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.dicom._contexts import EXPLICIT_BE, IMPLICIT_LE, NATIVE, UNCOMPRESSED
from digital_twins.dicom._text import quiet_pydicom

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from pydicom.dataset import Dataset

LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.57",  # JPEG lossless, process 14
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, process 14 selection value 1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless only
        "1.2.840.10008.1.2.4.201",  # high-throughput JPEG 2000, lossless only
        "1.2.840.10008.1.2.4.202",  # the same with RPCL progression
        "1.2.840.10008.1.2.5",  # RLE
    }
)
"""Compressed transfer syntaxes from which decompression gives back exactly what was compressed."""


def can_transcode(source: str, target: str) -> bool:
    """Whether `transcode` knows a lossless way."""
    return source == target or (target in UNCOMPRESSED and (source in NATIVE or source in LOSSLESS))


def transcode(source_file: Path | str | BinaryIO, target: str) -> bytes:
    """Return the data set of a DICOM file in Explicit or Implicit VR Little Endian.

    UIDs stay: the pixels are the same (PS3.5 section 8.2). A colour image that was compressed as YBR_RCT
    or RGB comes out as RGB.

    Raises
    ------
    InputError
        There is no lossless way, no codec, or the pixel data are broken.
    """
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    try:
        with quiet_pydicom():
            dataset = dcmread(source_file)
            source = str(dataset.file_meta.TransferSyntaxUID)
            if not can_transcode(source, target):
                raise _impossible(
                    "Its transfer syntax cannot be turned into an uncompressed one without loss."
                )
            if source == EXPLICIT_BE:
                _swap_pixels(dataset)
            elif source in LOSSLESS:
                dataset.decompress(generate_instance_uid=False)
            _load(dataset)
            buffer = DicomBytesIO()
            buffer.is_little_endian, buffer.is_implicit_VR = True, target == IMPLICIT_LE
            write_dataset(buffer, dataset)
            return bytes(buffer.getvalue())
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  (edge: codecs raise many kinds on broken pixel data)
        raise _impossible(f"Decoding it raised {type(error).__name__}.") from None


def _load(dataset: Dataset) -> None:
    """Read every element in its own encoding, so that writing encodes it anew."""
    for element in dataset.iterall():
        _ = element.value


def _swap_pixels(dataset: Dataset) -> None:
    """Words of Explicit VR Big Endian have their high byte first; pydicom keeps them as bytes."""
    import numpy

    if "PixelData" in dataset and dataset["PixelData"].VR == "OW":
        size = max(int(dataset.get("BitsAllocated", 16)) // 8, 2)
        words = numpy.frombuffer(dataset.PixelData, f">u{size}")
        dataset.PixelData = words.astype(f"<u{size}").tobytes()


def _impossible(why: str) -> InputError:
    return InputError(
        "The object cannot be sent in a transfer syntax that the peer accepts.",
        why,
        "Let the peer accept the transfer syntax of the stored object.",
    )
