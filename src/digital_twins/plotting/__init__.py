"""Figures of twins and their predictions; nothing else draws with matplotlib."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.plotting._comparison import (
        Outcome as Outcome,
        treatment_comparison as treatment_comparison,
    )
    from digital_twins.plotting._course import twin_course as twin_course
    from digital_twins.plotting._evolution import predicted_slices as predicted_slices
    from digital_twins.plotting._fit_quality import fit_quality as fit_quality
    from digital_twins.plotting._posterior import parameter_posterior as parameter_posterior
    from digital_twins.plotting._slices import (
        slice_triptych as slice_triptych,
    )
    from digital_twins.plotting._style import (
        PALETTE as PALETTE,
        Picture as Picture,
        cut as cut,
        font_folder as font_folder,
    )
    from digital_twins.plotting._survival import (
        EventFree as EventFree,
        event_free_curves as event_free_curves,
    )
    from digital_twins.plotting._timeline import (
        Curve as Curve,
        VolumePoint as VolumePoint,
        volume_timeline as volume_timeline,
    )
    from digital_twins.plotting._waterfall import response_waterfall as response_waterfall

_WHERE = {
    **dict.fromkeys(("Outcome", "treatment_comparison"), "digital_twins.plotting._comparison"),
    "twin_course": "digital_twins.plotting._course",
    "predicted_slices": "digital_twins.plotting._evolution",
    "fit_quality": "digital_twins.plotting._fit_quality",
    "parameter_posterior": "digital_twins.plotting._posterior",
    "slice_triptych": "digital_twins.plotting._slices",
    **dict.fromkeys(("PALETTE", "Picture", "cut", "font_folder"), "digital_twins.plotting._style"),
    **dict.fromkeys(("EventFree", "event_free_curves"), "digital_twins.plotting._survival"),
    "response_waterfall": "digital_twins.plotting._waterfall",
    **dict.fromkeys(("Curve", "VolumePoint", "volume_timeline"), "digital_twins.plotting._timeline"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
