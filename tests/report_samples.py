"""A report about a synthetic lesion, for tests."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from ct_series import AXIAL, ball, ct_series
from digital_twins.imaging import as_mask, volume_from_series
from digital_twins.plotting import Curve, VolumePoint
from digital_twins.records import Code, Condition, PatientRecord, Quantity
from digital_twins.reports import (
    OptionSummary,
    ParameterSummary,
    StudyReference,
    TwinReport,
    TwinSummary,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SHAPE = (8, 40, 36)
CREATED = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)


def sample_series() -> list[Dataset]:
    planes = np.random.default_rng(0).integers(-200, 200, SHAPE).astype(np.int16)
    return ct_series(planes, AXIAL)


def sample_option(label: str, rate_per_day: float, category: str, **more) -> OptionSummary:
    days = np.arange(0.0, 85.0, 7.0)
    median, spread = 12.5 * np.exp(rate_per_day * days), np.exp(0.3 * days / 84.0)
    change = [
        100.0 * (v / 12.5 - 1.0) for v in (median[-1], median[-1] / spread[-1], median[-1] * spread[-1])
    ]
    return OptionSummary(
        label,
        Curve(label, days, median, median / spread, median * spread),
        Quantity(change[0], "%", change[1], change[2]),
        category,
        probabilities={category: 0.7, "stable_disease": 0.3},
        input_hash="ab" * 32,
        **more,
    )


def sample_report(
    *, name: str = "Miller^Ann", images: bool = True, labels: tuple[str, ...] = ("HTEST",)
) -> TwinReport:
    grid = volume_from_series(sample_series())
    lesion = as_mask(grid, ball(SHAPE, (4, 20, 18), 8.0))
    smaller = as_mask(grid, ball(SHAPE, (4, 20, 18), 5.0))
    predicted = ((42.0, lesion), (84.0, smaller)) if images else ()
    record = PatientRecord(
        "P1",
        "pat-1",
        name,
        date(1960, 1, 1),
        "female",
        (Condition(Code("254637007", "SCT", "NSCLC"), "Non-small cell lung cancer", "Condition/1", "IIIA"),),
        biomarkers={"EGFR": "negative"},
        security_labels=labels,
    )
    twin = TwinSummary(
        "twin-1",
        3,
        "reaction_diffusion",
        Quantity(12.5, "cm3"),
        Quantity(0.0312, "/d", 0.0211, 0.0433),
        Quantity(31.4, "mm"),
        (
            ParameterSummary(
                "diffusion_mm2_per_day", Quantity(0.05, "mm2/d", 0.03, 0.08), source="calibrated"
            ),
            ParameterSummary("drug_sensitivity", Quantity(0.5, "1", 0.1, 2.2), source="an assumption"),
            ParameterSummary("alpha_beta_gy", Quantity(10.0, "Gy"), fixed=True),
        ),
        (VolumePoint(0.0, 12.5), VolumePoint(21.0, 14.0, simulated=True)),
        {"baseline CT": "a3" * 32},
        datetime(2026, 1, 2, tzinfo=UTC),
        grid if images else None,
        lesion if images else None,
        7,
        Quantity(13.8, "cm3", 12.6, 15.1),
        21.0,
    )
    options = (
        sample_option(
            "Carboplatin AUC 5 x4",
            -0.006,
            "stable_disease",
            predicted=predicted,
            assumptions=("Full dose is given.",),
        ),
        sample_option("Radiation 60 Gy in 30", -0.02, "partial_response", predicted=predicted[:1]),
    )
    study = StudyReference("1.2.3.7", "1.2.3.8", "A1", "2026-01-02", "CT", "CT chest")
    return TwinReport(record, twin, options, study, CREATED, "digital-twins", "0.1.0")
