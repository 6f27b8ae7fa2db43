"""CPU time of a report's renderings for a whole chest CT (61 slices of 512 x 512) and three options."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from digital_twins.imaging import as_mask, volume_from_series
from digital_twins.plotting import Curve, VolumePoint
from digital_twins.records import PatientRecord, Quantity
from digital_twins.reports import (
    OptionSummary,
    StudyReference,
    TwinReport,
    TwinSummary,
    documents,
    predicted_days,
    render_encapsulated_pdf,
    render_fhir,
    render_pdf,
    render_seg,
    render_sr,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLICES, ROWS, COLUMNS = 61, 512, 512
REPEATS = 10

Figure = tuple[str, float, str, float | None]


def _series() -> list[Dataset]:
    rng = np.random.default_rng(0)
    series = []
    for k in range(SLICES):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, f"1.2.3.1.{k + 1}"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.3.2", "1.2.3.3", "1.2.3.4"
        d.PatientID, d.PatientName, d.PatientBirthDate, d.PatientSex = "P1", "Bench^Mark", "", ""
        d.StudyDate, d.StudyTime, d.StudyID = "20260101", "000000", "1"
        d.AccessionNumber, d.ReferringPhysicianName, d.Manufacturer = "", "", ""
        d.Modality, d.SeriesNumber, d.InstanceNumber = "CT", 1, k + 1
        d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 5.0 * k]
        d.PixelSpacing, d.SliceThickness, d.PositionReferenceIndicator = [0.6, 0.6], 5.0, ""
        d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
        d.RescaleSlope, d.RescaleIntercept, d.ImageType = 1, 0, ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.PixelData = rng.integers(-800, 300, (ROWS, COLUMNS)).astype("<i2").tobytes()
        series.append(d)
    return series


def _report(series: list[Dataset]) -> TwinReport:
    image = volume_from_series(series)
    points = np.indices(image.shape).transpose(1, 2, 3, 0) * image.spacing_mm
    from_centre = np.linalg.norm(points - points[30, 256, 256], axis=-1)
    days = np.arange(0.0, 85.0, 7.0)
    options = []
    for number in range(3):
        median = 48.0 * np.exp(-0.004 * (number + 1) * days)
        last = 100.0 * (median[-1] / 48.0 - 1.0)
        options.append(
            OptionSummary(
                f"option {number}",
                Curve(f"option {number}", days, median, 0.7 * median, 1.4 * median),
                Quantity(last, "%", last - 10.0, last + 10.0),
                "stable_disease",
                probabilities={"stable_disease": 0.7, "partial_response": 0.3},
                predicted=((84.0, as_mask(image, from_centre < 20.0 - 2.0 * number)),),
            )
        )
    twin = TwinSummary(
        "bench",
        1,
        "reaction_diffusion",
        Quantity(48.0, "cm3"),
        Quantity(0.03, "/d", 0.02, 0.04),
        observed=(VolumePoint(0.0, 48.0),),
        image=image,
        lesion=as_mask(image, from_centre < 22.5),
    )
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return TwinReport(
        PatientRecord("P1"), twin, tuple(options), StudyReference("1.2.3.2"), created, "digital-twins", "0"
    )


def _cpu_s(work: Callable[[], object]) -> list[float]:
    """CPU seconds of each repetition, after one that loads libraries."""
    work()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def figures() -> Iterator[Figure]:
    """Yield (name, value, unit, None): the median of each rendering, the 95th percentile of all."""
    series = _series()
    report = _report(series)
    pdf = render_pdf(report)
    (day,) = predicted_days(report)
    parts: dict[str, Callable[[], object]] = {
        "pdf": lambda: render_pdf(report),
        "sr": lambda: render_sr(report, series),
        "seg": lambda: render_seg(report, series, day=day),
        "encapsulated_pdf": lambda: render_encapsulated_pdf(report, pdf, series),
        "fhir": lambda: render_fhir(report, pdf=pdf),
    }
    for name, work in parts.items():
        yield name, float(np.median(_cpu_s(work))), "CPU-s", None
    together = np.percentile(_cpu_s(lambda: documents(report, series)), 95)
    yield "all_documents_p95", float(together), "CPU-s", None
    yield "pdf_size", len(pdf) / 1000, "kB", None
