"""Treatment options beside each other: predicted change of the tumour volume with its interval."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.plotting._style import (
    FONT,
    INK,
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

    from digital_twins.records import Quantity


@dataclass(frozen=True, slots=True)
class Outcome:
    """One option: its label, the change of volume in percent with its interval, and the category."""

    label: str
    change_percent: Quantity
    category: str = ""


def treatment_comparison(
    outcomes: Sequence[Outcome],
    *,
    horizon_days: float,
    size_mm: tuple[float, float] = (92.0, 58.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw one row per option: the median change as a point, its interval as a bar, zero as a line.

    Options keep the colour and marker of their place in the list, as in ``volume_timeline``.

    Parameters
    ----------
    outcomes
        The options, first on top.
    horizon_days
        Day of the comparison, named on the axis.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        There is no option, or a change has no interval.
    """
    if not outcomes or not all(o.change_percent.has_interval for o in outcomes):
        raise InputError(
            "The treatment comparison cannot be drawn.",
            "There is no option, or a predicted change came without its interval.",
            "Give every option a Quantity with low and high.",
        )
    figure = new_figure(size_mm, left_mm=37.0, right_mm=4.0, top_mm=2.0, bottom_mm=13.0)
    axes = figure.add_subplot()
    axes.axvline(0.0, color=INK, linewidth=0.6)
    for row, outcome in enumerate(outcomes):
        change = outcome.change_percent
        colour, marker = PALETTE[row % len(PALETTE)], MARKERS[row % len(MARKERS)]
        low, high = float(change.low or 0.0), float(change.high or 0.0)
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(
            change.value,
            row,
            marker=marker,
            color=colour,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.7,
        )
        axes.annotate(
            f"{change.value:+.0f} %",
            (change.value, row),
            xytext=(0, 6),
            textcoords="offset points",
            fontsize=FONT - 1.5,
            color=INK,
            ha="center",
        )
    lines = 2 if len(outcomes) <= 4 else 1
    labels = [textwrap.fill(cut(o.label, 21 * lines), 22) for o in outcomes]
    axes.set_yticks(range(len(outcomes)), labels)
    axes.set_ylim(len(outcomes) - 0.5, -0.6)
    dress(axes, xlabel=f"predicted change on day {horizon_days:g} (%)", ylabel="")
    axes.tick_params(axis="y", length=0)
    add_note(figure)
    return render(figure, image_format)
