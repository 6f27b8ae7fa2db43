"""A made-up twin for the tests of the web page: numbers of the right shape, no model behind them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import nibabel
import numpy as np
from numpy.typing import NDArray

from digital_twins.server._models import (
    Document,
    ImageInfo,
    Interval,
    ObservedPoint,
    Parameter,
    PatientDetail,
    Provenance,
    Scenario,
    TwinDetail,
    TwinSummary,
    Version,
)

BASELINE = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
DAYS = [float(d) for d in range(0, 127, 7)]
COURSES = {
    "observation": ("Observation", "observation", 0.006, False),
    "chemo": ("carboplatin AUC 5 + paclitaxel 175 mg/m2, every 3 weeks x4", "chemotherapy", -0.004, True),
    "radiation": ("60 Gy in 30 fractions", "radiation", -0.016, True),
}


def nifti(array: NDArray[np.generic], affine: NDArray[np.float64]) -> bytes:
    """Gzipped NIfTI bytes of an [x, y, z(, t)] array."""
    import gzip

    return gzip.compress(nibabel.Nifti1Image(array, affine).to_bytes(), 1)


def phantom() -> tuple[NDArray[np.int16], NDArray[np.float64], NDArray[np.float64]]:
    """A CT-like cylinder with a bright ball: (image, RAS affine, centre in mm)."""
    shape, spacing = (48, 48, 20), (4.0, 4.0, 8.0)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = [96.0, 96.0, -80.0]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    mm = grid @ affine[:3, :3].T + affine[:3, 3]
    image = np.where(np.hypot(mm[..., 0], mm[..., 1] * 1.3) < 90, -820, -1000).astype(np.int16)
    centre = np.array([30.0, 10.0, -4.0])
    image[np.linalg.norm(mm - centre, axis=-1) < 20] = 40
    return image, affine, centre


def ball_volumes(
    shape: tuple[int, ...], affine: NDArray[np.float64], centre: NDArray[np.float64], key: str
) -> bytes:
    """The 4-D label volume of one course: a ball whose volume follows the course."""
    rate = COURSES[key][2]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    distance = np.linalg.norm(grid @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)
    frames = [distance < 20 * float(np.exp(rate * day / 3)) for day in DAYS]
    return nifti(np.stack(frames, -1).astype(np.uint8), affine)


def scenario(key: str, start_cm3: float) -> Scenario:
    """One course with a ribbon that widens in time."""
    label, kind, rate, planned = COURSES[key]
    volume = [start_cm3 * float(np.exp(rate * day)) for day in DAYS]
    spread = [float(np.exp(0.08 + 0.002 * day)) for day in DAYS]
    low, high = (
        [v / s for v, s in zip(volume, spread, strict=True)],
        [v * s for v, s in zip(volume, spread, strict=True)],
    )
    change = [100 * (end[-1] / start_cm3 - 1) for end in (volume, low, high)]
    return Scenario(
        key=key,
        label=label,
        kind=kind,
        planned=planned,
        interval=0.95,
        days=DAYS,
        volume_cm3=volume,
        low_cm3=low,
        high_cm3=high,
        mask_days=DAYS,
        volume_change_percent=Interval(value=change[0], low=change[1], high=change[2], unit="%"),
        response_category={
            "observation": "progressive_disease",
            "chemo": "stable_disease",
            "radiation": "partial_response",
        }[key],
        criterion="RECIST 1.1",
        nadir_day=DAYS[int(np.argmin(volume))],
        nadir_volume_cm3=min(volume),
    )


def twin(
    patient_key: str = "k1",
    *,
    start_cm3: float = 33.5,
    centre: tuple[float, float, float] = (30.0, 10.0, -4.0),
) -> TwinDetail:
    """A twin with three courses, five parameters and six documents."""
    rows = [
        ("diffusion_mm2_per_day", "Cell motility", 0.031, 0.012, 0.079, "mm2/day", False, "calibrated"),
        ("proliferation_per_day", "Proliferation rate", 0.0124, 0.0087, 0.0161, "/day", False, "calibrated"),
        ("drug_sensitivity", "Drug sensitivity", 0.72, 0.31, 1.4, "1", False, "prior, not yet informed"),
        ("alpha_per_gy", "Radiosensitivity alpha", 0.3, None, None, "/Gy", True, "literature"),
        ("alpha_beta_gy", "alpha/beta ratio", 10.0, None, None, "Gy", True, "literature"),
    ]
    names = ("name", "label", "value", "low", "high", "unit", "fixed", "source")
    kinds = [
        ("PDF", "Twin report (PDF)", "application/pdf", True),
        ("SR", "Structured report, TID 1500", "application/dicom", False),
        ("SEG", "PREDICTED day 84, NOT ACQUIRED", "application/dicom", False),
        ("FHIR", "DiagnosticReport, preliminary", "application/fhir+json", True),
    ]
    return TwinDetail(
        twin_id="twin-1",
        patient_key=patient_key,
        version=2,
        created_utc=BASELINE + timedelta(days=71),
        baseline_utc=BASELINE,
        model="reaction-diffusion, logistic growth",
        simulated=True,
        labels=["SIMULATED FOLLOW-UP"],
        current_volume=Interval(value=start_cm3, low=start_cm3 * 0.93, high=start_cm3 * 1.07, unit="cm3"),
        parameters=[Parameter(**dict(zip(names, row, strict=True))) for row in rows],
        observed=[
            ObservedPoint(
                day=d,
                acquired_utc=BASELINE + timedelta(days=d),
                volume_cm3=start_cm3 * float(np.exp(0.006 * d)),
                simulated=d > 0,
            )
            for d in (0, 28, 70)
        ],
        scenarios=[scenario(key, start_cm3) for key in COURSES],
        versions=[
            Version(
                version=2, created_utc=BASELINE + timedelta(days=71), reason="follow-up of day 70", scans=3
            ),
            Version(version=1, created_utc=BASELINE, reason="first build", scans=1),
        ],
        documents=[
            Document(
                kind=k,
                title=t,
                id=f"2.25.{i}",
                href=f"/api/twins/twin-1/documents/{k}",
                media_type=m,
                inline=n,
            )
            for i, (k, t, m, n) in enumerate(kinds)
        ],
        image=ImageInfo(modality="CT", window_low=-1000, window_high=300, lesion_centroid_mm=centre),
        provenance=Provenance(
            software_version="0.1.0", seed=0, input_hash="9f2c" * 16, model="reaction_diffusion"
        ),
    )


def patient(key: str = "k1") -> PatientDetail:
    """The patient of the twin."""
    return PatientDetail(
        key=key,
        patient_id="TEST-LUNG-2",
        name="Example, Ada",
        sex="female",
        birth_date=date(1957, 3, 4),
        diagnosis="Adenocarcinoma of lung",
        stage="IIIA",
        labels=["TEST DATA"],
        twin_count=1,
        twin_id="twin-1",
        updated_utc=BASELINE,
        biomarkers={"EGFR": "negative", "PD-L1": "50 %"},
        twins=[
            TwinSummary(twin_id="twin-1", version=2, created_utc=BASELINE, volume_cm3=33.5, simulated=True)
        ],
    )
