"""The figures of a report, drawn from its summaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.plotting import Outcome, slice_triptych, treatment_comparison, volume_timeline

if TYPE_CHECKING:
    from digital_twins.reports._model import TwinReport


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
        from digital_twins.imaging import as_mask, resample

        last = options[0].predicted[-1] if options[0].predicted else None
        predicted = as_mask(twin.image, resample(last[1], twin.image).array) if last else None
        height_mm = 64.0 if len(options) <= 3 else 48.0  # more rows in the table, less room for the figure
        found["slice"] = slice_triptych(
            twin.image,
            twin.lesion,
            predicted,
            predicted_day=last[0] if last else None,
            size_mm=(186.0, height_mm),
        ).decode()
        found["slice_caption"] = (
            f"Measured contour solid; predicted contour dashed: {options[0].label}" if last else ""
        )
        found["slice_alt"] = (
            "Axial slice with the largest tumour area: the image, the measured contour, and the "
            f"contour predicted for {options[0].label}."
        )
    return found
