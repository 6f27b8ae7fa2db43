"""Sample patients as DICOM objects that a hospital could have sent."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from digital_twins import __version__
from digital_twins.imaging import SegDetails, seg_from_masks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from digital_twins.imaging import Volume
    from digital_twins.samples._patient import Visit

_COMMENT = "Sample data: real image of a public test collection, invented identity and dates"
_HU_OFFSET = 1024
_SEX = {"male": "M", "female": "F"}
_REGION = {"lung": ("CHEST", "Chest CT"), "brain": ("BRAIN", "Brain MR")}


def uids(name: str) -> Callable[..., str]:
    """Return the function that gives the fixed UIDs of a sample (UUID-derived, PS3.5 section B.2)."""

    def uid(*what: object) -> str:
        path = "/".join(map(str, (name, *what)))
        return f"2.25.{uuid5(NAMESPACE_URL, 'https://digital-twins.example/sample/' + path).int}"

    return uid


def images(volume: Volume, subject: Mapping[str, Any], uid: Callable[..., str]) -> list[Dataset]:
    """Return the slices of a volume as CT or MR Image Storage data sets."""
    name = subject["name"][0]["family"], subject["name"][0]["given"][0]
    common = _study(volume, subject, name, uid)
    stored, rescale = _stored(volume)
    series = []
    for k, plane in enumerate(stored):
        dataset = Dataset()
        dataset.update(deepcopy(common))
        dataset.SOPInstanceUID = uid("image", k)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = _decimals(volume.index_to_mm(np.array([k, 0, 0])))
        dataset.SliceLocation = _decimals(volume.index_to_mm(np.array([k, 0, 0])))[2]
        dataset.update(deepcopy(rescale))
        dataset.PixelData = plane.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.file_meta = _file_meta(dataset)
        series.append(dataset)
    return series


def _study(
    volume: Volume, subject: Mapping[str, Any], name: tuple[str, str], uid: Callable[..., str]
) -> Dataset:
    """Everything that the slices of the series have in common."""
    when = volume.acquired
    if when is None:
        raise AssertionError("a sample has its date")
    ct = volume.modality == "CT"
    region, title = _REGION["lung" if ct else "brain"]
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.SOPClassUID = CTImageStorage if ct else MRImageStorage
    d.ImageType = ["DERIVED", "SECONDARY", "AXIAL"] if ct else ["DERIVED", "SECONDARY", "OTHER"]
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(d, f"{kind}Date", when.strftime("%Y%m%d"))
        setattr(d, f"{kind}Time", when.strftime("%H%M%S"))
    d.TimezoneOffsetFromUTC = "+0000"
    d.AccessionNumber = f"{str(volume.patient_id).removeprefix('SAMPLE-')}-0"
    d.Modality = volume.modality
    d.Manufacturer, d.ManufacturerModelName, d.SoftwareVersions = "digital-twins", "sample", __version__
    d.InstitutionName = "Sample data, no hospital"
    d.ReferringPhysicianName = ""
    d.StudyDescription, d.SeriesDescription = f"{title} (sample)", f"{title} baseline (sample)"
    d.DerivationDescription = "Cropped from a public NRRD test image of pyradiomics (BSD-3-Clause)"
    d.PatientName = "^".join(name)
    d.PatientID = volume.patient_id
    d.PatientBirthDate = subject["birthDate"].replace("-", "")
    d.PatientSex = _SEX[subject["gender"]]
    d.PatientComments = d.ImageComments = _COMMENT
    d.BodyPartExamined, d.PatientPosition = region, "HFS"
    d.StudyInstanceUID, d.SeriesInstanceUID = uid("study", 0), uid("series", 0)
    d.StudyID, d.SeriesNumber, d.AcquisitionNumber = "1", 1, 1
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = volume.frame_of_reference_uid, ""
    d.update(_geometry(volume))
    d.update(_ct_only() if ct else _mr_only())
    return d


def _geometry(volume: Volume) -> Dataset:
    d = Dataset()
    directions = volume.affine[:3, :3] / np.array(volume.spacing_mm)
    d.ImageOrientationPatient = _decimals(np.concatenate([directions[:, 2], directions[:, 1]]))
    d.PixelSpacing = _decimals(np.array(volume.spacing_mm[1:]))
    d.SliceThickness = _decimals(np.array(volume.spacing_mm[:1]))[0]
    _, d.Rows, d.Columns = volume.shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.BurnedInAnnotation, d.LossyImageCompression = "NO", "00"
    return d


def _ct_only() -> Dataset:
    d = Dataset()
    d.KVP = None
    d.RescaleType = "HU"
    return d


def _mr_only() -> Dataset:
    d = Dataset()
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = "RM", "NONE", ""
    d.MRAcquisitionType = "2D"
    d.RepetitionTime = d.EchoTime = d.EchoTrainLength = None
    return d


def _stored(volume: Volume) -> tuple[np.ndarray[Any, np.dtype[np.uint16]], Dataset]:
    """Stored values, and the attributes that turn them back into units and set the display window."""
    d = Dataset()
    if volume.modality == "CT":
        d.RescaleIntercept, d.RescaleSlope = -_HU_OFFSET, 1
        d.WindowCenter, d.WindowWidth = [40, -600], [400, 1500]
        d.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
        return (volume.array.astype(np.int32) + _HU_OFFSET).astype("<u2"), d
    high = int(np.percentile(volume.array, 99.5))
    d.WindowCenter, d.WindowWidth = high // 2, high
    return volume.array.astype("<u2"), d


def _decimals(values: Any) -> list[float]:
    """Round to what a Decimal String of 16 characters holds without loss of 1e-6 mm."""
    return [round(float(value), 8) + 0.0 for value in values]


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.ImplementationClassUID = UID(uids("software")("implementation"))
    meta.ImplementationVersionName = "DIGITAL_TWINS"
    return meta


def segmentation(visit: Visit, source: Sequence[Dataset], name: str) -> Dataset:
    """Return the SEG of a visit; a simulated one becomes a study of its own that says so everywhere."""
    uid = uids(name)
    day = f"{visit.day:g}"
    simulated = visit.simulated
    title = (
        f"SIMULATED follow-up day {day} (not acquired)" if simulated else "Tumour outline, baseline (sample)"
    )
    seg = seg_from_masks(
        [visit.mask],
        source,
        series_description=title,
        series_number=100 if simulated else 2,
        details=SegDetails(
            labels=(f"Lesion, SIMULATED day {day}" if simulated else "Lesion",),
            algorithm="AUTOMATIC" if simulated else "MANUAL",
            algorithm_name="scripts/make_samples.py",
            series_uid=uid("seg-series", day),
            sop_uid=uid("seg", day),
            created=visit.mask.acquired,
            tracking_uid=(uid("lesion"),),
            content_label="SIMULATED" if simulated else "TUMOUR",
        ),
    )
    seg.InstitutionName = "Sample data, no hospital"
    seg.PatientComments = _COMMENT
    if simulated:
        _own_study(seg, visit, uid)
    return seg


def _own_study(seg: Dataset, visit: Visit, uid: Callable[..., str]) -> None:
    """Move a SEG into a study on the day of the visit; the images are then those of another study."""
    when = visit.mask.acquired
    if when is None:
        raise AssertionError("a visit has its date")
    day = f"{visit.day:g}"
    other = Dataset()
    other.StudyInstanceUID = seg.StudyInstanceUID
    other.ReferencedSeriesSequence = seg.ReferencedSeriesSequence
    del seg.ReferencedSeriesSequence
    seg.StudiesContainingOtherReferencedInstancesSequence = DicomSequence([other])
    seg.StudyInstanceUID = uid("study", day)
    seg.StudyDate, seg.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    seg.StudyID = seg.AccessionNumber = f"SIM-{day}"
    seg.StudyDescription = f"SIMULATED follow-up day {day} (sample, not acquired)"
