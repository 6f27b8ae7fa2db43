"""Tumour volume over time: what was measured, and what is predicted with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.plotting._style import (
    FONT,
    INK,
    LINES,
    MARKERS,
    PALETTE,
    ImageFormat,
    Picture,
    add_note,
    cut,
    dress,
    new_figure,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VolumePoint:
    """A tumour volume in cm3 on a day after baseline; ``simulated`` marks sample data of a model."""

    day: float
    volume_cm3: float
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A predicted course: days after baseline, and median and interval of the volume in cm3."""

    label: str
    days: NDArray[np.float64]
    median_cm3: NDArray[np.float64]
    low_cm3: NDArray[np.float64]
    high_cm3: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.days, self.median_cm3, self.low_cm3, self.high_cm3)}
        if len(lengths) != 1 or 0 in lengths:
            raise InputError(
                "A predicted curve cannot be drawn.",
                "Its days, median and limits are empty or of different lengths.",
                "Give one median and one interval for every day.",
            )


def volume_timeline(
    observed: Sequence[VolumePoint],
    curves: Sequence[Curve],
    *,
    level: float = 0.95,
    size_mm: tuple[float, float] = (92.0, 58.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw measured volumes as points and every prediction as a median line in its interval's ribbon.

    Parameters
    ----------
    observed
        Measured volumes; those marked simulated are drawn hollow and named so.
    curves
        Predictions, at most seven (one colour, line and label each).
    level
        Probability of the ribbons, for the legend.
    size_mm
        Width and height of the figure.
    image_format
        ``"svg"`` or ``"png"``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        More than seven curves.
    """
    if len(curves) > len(PALETTE):
        raise InputError(
            "The figure would hold too many curves.",
            f"{len(curves)} were given; at most {len(PALETTE)} can be told apart.",
            "Draw several figures.",
        )
    figure = new_figure(size_mm, left_mm=12.0, right_mm=2.0, top_mm=2.0, bottom_mm=13.0)
    axes = figure.add_subplot()
    for curve, colour, line in zip(curves, PALETTE, LINES, strict=False):
        axes.fill_between(curve.days, curve.low_cm3, curve.high_cm3, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            curve.days,
            curve.median_cm3,
            color=colour,
            linestyle=line,
            linewidth=1.2,
            label=cut(curve.label, 34),
        )
    _points(axes, [p for p in observed if not p.simulated], "measured", filled=True)
    _points(axes, [p for p in observed if p.simulated], "simulated follow-up", filled=False)
    dress(axes, xlabel="time since baseline (days)", ylabel="tumour volume (cm³)")
    axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            fontsize=FONT - 1.5,
            frameon=False,
            loc="best",
            title=f"median, {100 * level:g} % interval",
            title_fontsize=FONT - 1.5,
        )
    add_note(figure)
    return render(figure, image_format)


def _points(axes: Axes, points: Sequence[VolumePoint], label: str, *, filled: bool) -> None:
    if not points:
        return
    axes.plot(
        [p.day for p in points],
        [p.volume_cm3 for p in points],
        linestyle="none",
        marker=MARKERS[0],
        markersize=4,
        color=INK,
        markerfacecolor=INK if filled else "white",
        markeredgewidth=0.9,
        label=label,
        zorder=5,
    )
