"""Radiotherapy plans evaluated: dose-volume histograms, equivalent doses, accumulation over courses."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.radiotherapy._accumulate import (
        Course as Course,
        accumulate_eqd2 as accumulate_eqd2,
        equivalent_dose as equivalent_dose,
    )
    from digital_twins.radiotherapy._evaluate import (
        PlanEvaluation as PlanEvaluation,
        evaluate_plan as evaluate_plan,
    )
    from digital_twins.radiotherapy._histogram import (
        DoseVolumeHistogram as DoseVolumeHistogram,
        dose_volume_histogram as dose_volume_histogram,
    )

_ROOM = "digital_twins.radiotherapy"
_WHERE = {
    **dict.fromkeys(("Course", "accumulate_eqd2", "equivalent_dose"), f"{_ROOM}._accumulate"),
    **dict.fromkeys(("PlanEvaluation", "evaluate_plan"), f"{_ROOM}._evaluate"),
    **dict.fromkeys(("DoseVolumeHistogram", "dose_volume_histogram"), f"{_ROOM}._histogram"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
