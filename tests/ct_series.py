"""Minimal CT series with a given affine, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXIAL = np.array([[0, 0, 0.7, -100], [0, 0.7, 0, -90], [-2.5, 0, 0, 40], [0, 0, 0, 1.0]])


def oblique(spacing: tuple[float, float, float] = (3.1, 0.6, 0.8)) -> NDArray[np.float64]:
    """A right-handed affine turned by 0.3 and 0.2 rad."""
    a, b = 0.3, 0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ AXIAL[:3, :3] / np.linalg.norm(AXIAL[:3, :3], axis=0) * np.array(spacing)
    affine[:3, 3] = [12.5, -33.25, 101.125]
    return affine


def tilted(angle_deg: float = 15.0) -> NDArray[np.float64]:
    """A gantry-tilted affine: planes turned about x, the table moving along z."""
    tilt = np.deg2rad(angle_deg)
    affine = np.eye(4)
    affine[:3, 2] = [0.5, 0, 0]
    affine[:3, 1] = [0, 0.5 * np.cos(tilt), 0.5 * np.sin(tilt)]
    affine[:3, 0] = [0, 0, -4.0]
    affine[:3, 3] = [-60, -70, 55]
    return affine


def ct_series(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    intercepts: Any = -1024,
    frame_uid: str = "1.2.3.4",
) -> list[Dataset]:
    """Return data sets whose stored values are ``array`` minus the intercept of each slice."""
    series = []
    intercept = np.broadcast_to(intercepts, len(array))
    for k, plane in enumerate(array):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        d.SOPClassUID = CTImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{k + 1}"
        d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = "1.2.3.8", "1.2.3.7", frame_uid
        d.Modality, d.PatientID, d.PatientName = "CT", "P1", "Test^One"
        d.PatientBirthDate, d.PatientSex, d.StudyID, d.AccessionNumber = "19600101", "O", "1", ""
        d.StudyDate, d.StudyTime, d.ReferringPhysicianName = "20260102", "030405", ""
        d.AcquisitionDate, d.AcquisitionTime, d.TimezoneOffsetFromUTC = "20260102", "030405.5", "+0200"
        d.InstanceNumber, d.SeriesNumber, d.Manufacturer, d.PositionReferenceIndicator = k + 1, 1, "T", ""
        d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.ImagePositionPatient = [*(affine[:3, 3] + k * affine[:3, 0])]
        column, row = affine[:3, 2], affine[:3, 1]
        d.ImageOrientationPatient = [*(column / np.linalg.norm(column)), *(row / np.linalg.norm(row))]
        d.PixelSpacing = [np.linalg.norm(row), np.linalg.norm(column)]
        d.SliceThickness = float(abs(np.cross(row, column) @ affine[:3, 0])) / float(
            np.linalg.norm(row) * np.linalg.norm(column)
        )
        d.Rows, d.Columns = plane.shape
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.RescaleSlope, d.RescaleIntercept = 1, int(intercept[k])
        d.PixelData = (plane - int(intercept[k])).astype("<u2").tobytes()
        series.append(d)
    return series


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    """Voxels within ``radius`` (voxels) of ``centre``."""
    index = np.indices(shape).reshape(3, -1).T - np.array(centre)
    return (np.linalg.norm(index, axis=1) <= radius).reshape(shape)
