"""Figures of twins and their predictions; nothing else draws with matplotlib."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.plotting._comparison import (
        Outcome as Outcome,
        treatment_comparison as treatment_comparison,
    )
    from digital_twins.plotting._slices import (
        slice_triptych as slice_triptych,
    )
    from digital_twins.plotting._style import (
        PALETTE as PALETTE,
        cut as cut,
        font_folder as font_folder,
    )
    from digital_twins.plotting._timeline import (
        Curve as Curve,
        VolumePoint as VolumePoint,
        volume_timeline as volume_timeline,
    )

_WHERE = {
    **dict.fromkeys(("Outcome", "treatment_comparison"), "digital_twins.plotting._comparison"),
    "slice_triptych": "digital_twins.plotting._slices",
    **dict.fromkeys(("PALETTE", "cut", "font_folder"), "digital_twins.plotting._style"),
    **dict.fromkeys(("Curve", "VolumePoint", "volume_timeline"), "digital_twins.plotting._timeline"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
