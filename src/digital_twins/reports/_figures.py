"""The figures of a report, drawn from its summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.imaging import as_mask, bounding_box, crop
from digital_twins.plotting import Outcome, slice_triptych, treatment_comparison, volume_timeline
from digital_twins.reports._masks import place

if TYPE_CHECKING:
    from digital_twins.imaging import Mask, Volume
    from digital_twins.reports._model import TwinReport

_AROUND_MM = 60.0


def figures(report: TwinReport) -> dict[str, str]:
    """Return SVG text by name (``timeline``, ``comparison``, ``slice``), each with ``<name>_alt`` in words.

    ``slice`` is missing when the twin summary holds no image or lesion.
    """
    twin, options = report.twin, report.options
    level = options[0].change.level
    found = {
        "timeline": volume_timeline(twin.observed, [o.curve for o in options], level=level).decode(),
        "timeline_alt": "Tumour volume in cubic centimetres over days since baseline: measured points and "
        f"the predicted course of {len(options)} treatment options with intervals.",
        "comparison": treatment_comparison(
            [Outcome(o.label, o.change, o.category) for o in options],
            horizon_days=max(o.horizon_days for o in options),
        ).decode(),
        "comparison_alt": "Predicted change of tumour volume per treatment option, median and interval: "
        + "; ".join(f"{o.label} {o.change.value:+.0f} percent" for o in options),
    }
    if twin.image is not None and twin.lesion is not None:
        last = next(iter(options[0].predicted[-1:]), None)
        found["slice"] = _slice(twin.image, twin.lesion, last, short=len(options) > 3)
        found["slice_caption"] = (
            f"Measured contour solid; predicted contour dashed: {options[0].label}" if last else ""
        )
        found["slice_alt"] = (
            "Axial slice with the largest tumour area: the image, the measured contour, and the "
            f"contour predicted for {options[0].label}."
        )
    return found


def _slice(image: Volume, lesion: Mask, predicted: tuple[float, Mask] | None, *, short: bool) -> str:
    """Return the triptych of the part of the image around the lesion; all masks may be on other grids."""
    lesion = place(lesion, image)
    box = bounding_box(lesion, margin_mm=_AROUND_MM)
    part = crop(image, box)
    outline = None
    if predicted is not None:
        mask = predicted[1]
        outline = place(mask, part) if mask.array.any() else as_mask(part, np.zeros(part.shape, dtype=bool))
    return slice_triptych(
        part,
        as_mask(part, lesion.array[box]),
        outline,
        predicted_day=predicted[0] if predicted else None,
        # more rows in the table, less room for the figure
        size_mm=(186.0, 48.0 if short else 64.0),
    ).decode()
