"""Objects of many kinds with values planted all over them that no de-identified object may show."""

from __future__ import annotations

import io
import random
import warnings
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import PersonName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom.dataset import PrivateBlock


TEXT_VRS = ["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT", "DA"]
# Changing these makes another object of it, or one that nobody can read.
STRUCTURE = {
    *(0x00080005, 0x00080016, 0x00080018, 0x00080060, 0x00280004, 0x00080301, 0x0008002A, 0x00280301),
    *(0x00080064, 0x00280006, 0x00280008, 0x00420010, 0x00420012),
}
CHARSETS = {
    "ISO_IR 100": "Größe",
    "ISO_IR 144": "Люкceмбург",
    "ISO_IR 192": "山田太郎",
    "ISO 2022 IR 149": "김희중",
}
CODECS = dict(zip(CHARSETS, ("latin-1", "iso8859_5", "utf-8", "euc_kr"), strict=True))


@dataclass
class Planted:
    """An object as bytes and what was hidden in it."""

    kind: str
    content: bytes
    values: list[bytes] = field(default_factory=list)


def kinds() -> dict[str, Callable[[], FileDataset]]:
    """Return how to make an object of each kind: pydicom's sample files, and derived ones."""

    def file(name: str) -> Callable[[], FileDataset]:
        return lambda: dcmread(str(get_testdata_file(name)))

    found: dict[str, Callable[[], FileDataset]] = {
        "CT": file("CT_small.dcm"),
        "CT JPEG 2000": file("693_J2KI.dcm"),
        "MR": file("MR_small.dcm"),
        "MR RLE": file("MR_small_RLE.dcm"),
        "MR implicit": file("MR_small_implicit.dcm"),
        "MR big endian": file("MR_small_bigendian.dcm"),
        "MR JPEG-LS": file("MR_small_jpeg_ls_lossless.dcm"),
        "MR overlay": file("examples_overlay.dcm"),
        "US": file("examples_palette.dcm"),
        "US multi-frame JPEG": file("examples_ybr_color.dcm"),
        "SC RLE": file("SC_rgb_rle.dcm"),
        "SC deflated": file("image_dfl.dcm"),
        "SEG": file("liver_1frame.dcm"),
        "SR": file("test-SR.dcm"),
        "SR basic text": file("reportsi.dcm"),
        "RTDOSE": file("rtdose_1frame.dcm"),
        "RTPLAN": file("rtplan.dcm"),
        "ECG": file("waveform_ecg.dcm"),
        "RTSTRUCT": rt_structure_set,
        "PDF": encapsulated_pdf,
    }
    for modality, sop_class in (
        ("PT", "1.2.840.10008.5.1.4.1.1.128"),
        ("MG", "1.2.840.10008.5.1.4.1.1.1.2"),
        ("CR", "1.2.840.10008.5.1.4.1.1.1"),
        ("DX", "1.2.840.10008.5.1.4.1.1.1.1"),
        ("XA", "1.2.840.10008.5.1.4.1.1.12.1"),
        ("NM", "1.2.840.10008.5.1.4.1.1.20"),
    ):
        found[modality] = lambda modality=modality, sop_class=sop_class: _as(modality, sop_class)
    return found


def plant(
    kind: str,
    make: Callable[[], FileDataset],
    *,
    seed: int,
    count: int = 220,
    listed: Mapping[tuple[int, int, str], str] | None = None,
) -> Planted:
    """Hide values in places drawn from the dictionary: standard, private and unknown tags, at any depth.

    `listed` are private attributes that get values too, by group, element and creator, with their VR.
    """
    draw = random.Random(seed)
    dataset = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the dose sample has UIDs with a leading zero
        dataset.walk(_without_foreign_letters)
    charset = sorted(CHARSETS)[(seed + len(kind)) % len(CHARSETS)]  # all of them are met soon
    dataset.SpecificCharacterSet = ["", charset] if charset.startswith("ISO 2022") else charset
    planted = Planted(kind, b"")
    dataset.PatientID = _remember(planted, f"MRN{draw.randrange(10**9):09d}")
    dataset.PatientName = _name(draw, planted, charset)
    tags = [
        tag
        for tag, (vr, _, _, retired, _) in DicomDictionary.items()
        if vr in TEXT_VRS and tag not in STRUCTURE and tag >> 16 > 0x0008 - 1 and tag >> 16 < 0x7000
    ]
    sequences = [tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ" and tag >> 16 > 8]
    for number in range(count):
        where = _place(draw, dataset, sequences)
        tag = draw.choice(tags)
        where.add(
            DataElement(tag, DicomDictionary[tag][0], _value(draw, planted, DicomDictionary[tag][0], charset))
        )
        if number % 10 == 0:
            _private(draw, where, planted, charset)
        if listed and number % 3 == 0:
            (group, element, creator), vr = draw.choice(list(listed.items()))
            _listed(draw, where.private_block(group, creator, create=True), element, planted=planted, vr=vr)
        if number % 17 == 0:
            unknown = (0x0018 << 16) | 0xEE00 | draw.randrange(256)
            where.add(DataElement(unknown, "UN", _remember(planted, _token(draw)).encode() + b" "))
    return _written(dataset, planted, draw)


def _without_foreign_letters(_: Dataset, element: DataElement) -> None:
    """Empty what the sample's own character set has and the drawn one may lack."""
    if (
        element.VR != "SQ"
        and isinstance(element.value, str | PersonName)
        and not str(element.value).isascii()
    ):
        element.value = ""


def _place(draw: random.Random, dataset: Dataset, sequences: list[int]) -> Dataset:
    where: Dataset = dataset
    for _ in range(draw.choice((0, 0, 1, 2, 3, 5))):
        tag = draw.choice(sequences)
        if tag not in where:
            where.add(DataElement(tag, "SQ", Sequence([Dataset()])))
        items = where[tag].value
        if not items:
            items.append(Dataset())
        where = items[0]
    return where


def _private(draw: random.Random, where: Dataset, planted: Planted, charset: str) -> None:
    block = where.private_block(
        0x0009 + 2 * draw.randrange(20), _remember(planted, _token(draw)), create=True
    )
    vr = draw.choice(("LO", "UN", "OB", "PN", "SQ", "UT"))
    if vr == "SQ":
        item = Dataset()
        item.add_new(0x00100010, "PN", _name(draw, planted, charset))
        block.add_new(0x01, "SQ", Sequence([item]))
    elif vr in {"UN", "OB"}:
        block.add_new(0x02, vr, _remember(planted, _token(draw)).encode() + b"  ")
    else:
        block.add_new(0x03, vr, _value(draw, planted, vr, charset))


def _listed(draw: random.Random, block: PrivateBlock, element: int, *, planted: Planted, vr: str) -> None:
    """Put a value where the list expects a harmless one: as text of its VR or another, or as bytes."""
    token = _remember(planted, _token(draw))
    stated = draw.choice(("UN", "LO", "UT", vr if vr in {"CS", "SH", "LO", "UI"} else "LO"))
    if vr == "UI" and stated == "UI":
        stated = "LO"
    value = token.encode() + b" " * (len(token) % 2) if stated == "UN" else token
    if stated == "CS":
        value = _remember(planted, token.upper())
    block.add_new(element, stated, value)


def _value(draw: random.Random, planted: Planted, vr: str, charset: str) -> Any:
    token = _token(draw)
    if vr == "DA":
        # All in one month, and dates move by a month at least: none can turn up by chance.
        return _remember(planted, f"193401{draw.randrange(1, 29):02d}")
    if vr == "UI":
        return _remember(planted, f"1.2.{draw.randrange(10**8, 10**9)}.{draw.randrange(10**8, 10**9)}")
    if vr in {"CS", "AE"}:
        return _remember(planted, token.upper()[:14])
    if vr == "PN":
        return _name(draw, planted, charset)
    if vr == "UR":
        return f"https://{_remember(planted, token)}.example.org/{_remember(planted, _token(draw))}"
    if vr in {"LT", "ST", "UT"}:
        phone = _remember(
            planted, f"{draw.randrange(200, 999)}-{draw.randrange(200, 999)}-{draw.randrange(9999):04d}"
        )
        return f"Chest CT of {_remember(planted, token)}, tel. {phone}, 2 cm nodule"
    if vr == "UC":
        return f"Image by {_remember(planted, token)}"
    return _remember(planted, token[:14])


def _token(draw: random.Random) -> str:
    letters = "".join(draw.choice("bcdfghjklmnpqrstvwxz") for _ in range(9))
    return f"q{letters}{draw.randrange(10**4):04d}"


def _name(draw: random.Random, planted: Planted, charset: str) -> str:
    planted.values.append(CHARSETS[charset].encode(CODECS[charset]))
    family = _remember(planted, "Q" + _token(draw)[1:9])
    return f"{family}^{_remember(planted, _token(draw)[:8])}={CHARSETS[charset]}"


def _remember(planted: Planted, value: str) -> str:
    planted.values.append(value.encode("ascii"))
    return value


def _written(dataset: FileDataset, planted: Planted, draw: random.Random) -> Planted:
    dataset.preamble = _remember(planted, _token(draw)).encode().ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = _remember(planted, _token(draw).upper()[:14])
    dataset.file_meta.PrivateInformationCreatorUID = generate_uid()
    dataset.file_meta.PrivateInformation = _remember(planted, _token(draw)).encode() + b" "
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dataset.save_as(out)
    planted.content = out.getvalue()
    # A place that was drawn twice holds the later value alone.
    shown = visible(planted.content)
    planted.values = [value for value in dict.fromkeys(planted.values) if value in shown]
    return planted


def visible(content: bytes) -> bytes:
    """Return the bytes of a file with a deflated dataset inflated, to search in."""
    meta = dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta
    if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return content
    start = 132 + 12 + meta.FileMetaInformationGroupLength
    return content[:start] + zlib.decompress(content[start:], -zlib.MAX_WBITS)


def _as(modality: str, sop_class: str) -> FileDataset:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.Modality, dataset.SOPClassUID = modality, sop_class
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    return dataset


def _new(sop_class: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop_class, generate_uid(), modality
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StudyDate, dataset.StudyTime = "20240105", "101500"
    dataset.PatientBirthDate, dataset.PatientSex = "19340101", "F"
    return dataset


def rt_structure_set() -> FileDataset:
    dataset = _new("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT")
    roi, contour, points = Dataset(), Dataset(), Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = 1, "GTV Meier", "MANUAL"
    points.ContourGeometricType, points.NumberOfContourPoints = "CLOSED_PLANAR", 3
    points.ContourData = [0, 0, 0, 1, 0, 0, 1, 1, 0]
    contour.ReferencedROINumber, contour.ContourSequence = 1, Sequence([points])
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence([roi]), Sequence([contour])
    dataset.StructureSetLabel, dataset.StructureSetDate = "Plan", "20240106"
    return dataset


def encapsulated_pdf() -> FileDataset:
    dataset = _new("1.2.840.10008.5.1.4.1.1.104.1", "DOC")
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = b"%PDF-1.4 (Report on Eva Muster) %%EOF"
    dataset.EncapsulatedDocumentLength = len(dataset.EncapsulatedDocument)
    return dataset


def slices(patient_id: str, dates: list[str]) -> list[FileDataset]:
    """Return CT slices of one patient, a study a date; each refers to the one before."""
    study: list[FileDataset] = []
    for number, date in enumerate(dates):
        dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
        dataset.PatientID, dataset.StudyDate, dataset.SeriesDate = patient_id, date, date
        dataset.AcquisitionDateTime = f"{date}101530.25+0100"
        dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
        dataset.PixelData = np.full((128, 128), number, np.int16).tobytes()
        if study:
            reference = Dataset()
            reference.ReferencedSOPClassUID = study[-1].SOPClassUID
            reference.ReferencedSOPInstanceUID = study[-1].SOPInstanceUID
            dataset.ReferencedImageSequence = Sequence([reference])
        study.append(dataset)
    return study
