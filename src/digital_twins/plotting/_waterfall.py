"""Waterfall of predicted responses: one bar each, from the worst to the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.plotting._style import (
    FONT,
    INK,
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

    from digital_twins.plotting._comparison import Outcome

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "||||")
_NAMED = 24


def response_waterfall(
    outcomes: Sequence[Outcome],
    *,
    horizon_days: float,
    limits_percent: tuple[float, ...] = (),
    size_mm: tuple[float, float] = (150.0, 80.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw one bar for each outcome (a patient's, or an option's) in falling order, coloured by category.

    A whisker shows the interval where an outcome has one. More than 24 bars carry no names.

    Parameters
    ----------
    outcomes
        Predicted changes of the tumour volume with the category that each belongs to.
    horizon_days
        Day of the comparison, named on the axis.
    limits_percent
        Where to draw dashed lines, in percent of volume: for a sphere RECIST 1.1's -30 % and +20 % of the
        diameter are -66 % and +73 % of the volume.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        There is no outcome.
    """
    if not outcomes:
        raise InputError("There is nothing to draw.", "No outcome was given.", "Give one or more.")
    ordered = sorted(outcomes, key=lambda o: (-o.change_percent.value, o.label))
    kinds = list(dict.fromkeys(o.category for o in ordered))
    named = len(ordered) <= _NAMED
    figure = new_figure(size_mm, left_mm=19, right_mm=3, top_mm=4, bottom_mm=_bottom_mm(ordered))
    axes = figure.add_subplot()
    for kind in kinds:
        number = kinds.index(kind)
        mine = [i for i, o in enumerate(ordered) if o.category == kind]
        axes.bar(
            mine,
            [ordered[i].change_percent.value for i in mine],
            width=0.78,
            color=PALETTE[number % len(PALETTE)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.4,
            label=kind.replace("_", " ") or "not assessed",
        )
    for i, outcome in enumerate(ordered):
        change = outcome.change_percent
        if change.low is not None and change.high is not None:
            axes.plot([i, i], [change.low, change.high], color=INK, linewidth=0.7)
    axes.axhline(0, color=INK, linewidth=0.6)
    for limit in limits_percent:
        axes.axhline(limit, color=INK, linewidth=0.6, linestyle=(0, (4, 3)))
    dress(axes, xlabel="", ylabel=f"predicted change of volume\non day {horizon_days:g} (%)")
    axes.set_xlim(-0.6, len(ordered) - 0.4)
    axes.spines["bottom"].set_visible(False)
    if named:
        axes.set_xticks(np.arange(len(ordered)), [cut(o.label, 22) for o in ordered], rotation=38, ha="right")
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(ordered)} outcomes", fontsize=FONT, color=INK)
    axes.legend(fontsize=FONT - 1, loc="upper right", facecolor="white", framealpha=1, edgecolor="none")
    add_note(figure)
    return render(figure, image_format)


def _bottom_mm(outcomes: Sequence[Outcome]) -> float:
    """Return room for the slanted names below the bars."""
    if len(outcomes) > _NAMED:
        return 12.0
    return 6.0 + 1.05 * max(len(cut(o.label, 22)) for o in outcomes)
