"""Step curves of staying free of an event, with their intervals and the numbers at risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.plotting._style import (
    FONT,
    INK,
    LINES,
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

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from digital_twins.patient_modeling import Prediction

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class EventFree:
    """Probability of being free of an event over time.

    Attributes
    ----------
    label
        Name of the curve.
    days
        Days on which the curve steps, rising; the curve holds from one to the next.
    probability, low, high
        Probability from each day on, with its interval, 0 to 1.
    what
        The interval in words.
    """

    label: str
    days: NDArray[np.float64]
    probability: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    what: str = "95 % interval"

    def __post_init__(self) -> None:
        arrays = (self.days, self.probability, self.low, self.high)
        if len({len(a) for a in arrays}) != 1 or not len(self.days) or np.any(np.diff(self.days) < 0):
            raise InputError(
                "A curve of event-free time cannot be drawn.",
                "Its days, probabilities and limits are empty, of different lengths, or days do not rise.",
                "Give one probability and one interval for every day, in order.",
            )

    @classmethod
    def below_volume(cls, prediction: Prediction, limit_cm3: float, *, label: str = "") -> EventFree:
        """Return the share of a prediction's members that have not exceeded a volume since the twin's "now".

        With a limit at which recurrence or progression would be called, this is the recurrence-free curve of
        this one patient. Its interval (Wilson, 95 %) is the error of a finite ensemble; the uncertainty of
        the parameters is in the curve itself.
        """
        ahead = prediction.days >= prediction.origin_day
        highest = np.maximum.accumulate(prediction.samples_cm3[:, ahead], axis=1)
        count = len(highest)
        share = (highest <= limit_cm3).mean(axis=0)
        centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
        half = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
        return cls(
            label or f"volume up to {limit_cm3:g} cm³",
            prediction.days[ahead],
            share,
            np.clip(centre - half, 0.0, 1.0),
            np.clip(centre + half, 0.0, 1.0),
            f"95 % interval of {count} members",
        )


def event_free_curves(
    curves: Sequence[EventFree],
    *,
    ylabel: str = "probability of no recurrence",
    size_mm: tuple[float, float] = (110.0, 72.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw curves of event-free time as steps with their intervals.

    Parameters
    ----------
    curves
        At most seven, one colour and line each.
    ylabel
        What the curves are free of.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        There is no curve, or more than seven.
    """
    if not 0 < len(curves) <= len(PALETTE):
        raise InputError(
            "The curves cannot be drawn.",
            f"{len(curves)} were given; one to {len(PALETTE)} can be told apart.",
            "Draw several figures.",
        )
    figure = new_figure(size_mm, left_mm=13, right_mm=4, top_mm=3, bottom_mm=12)
    axes = figure.add_subplot()
    for curve, colour, line in zip(curves, PALETTE, LINES, strict=False):
        axes.fill_between(
            curve.days, curve.low, curve.high, step="post", color=colour, alpha=0.14, linewidth=0
        )
        axes.step(
            curve.days,
            curve.probability,
            where="post",
            color=colour,
            linestyle=line,
            linewidth=1.3,
            label=cut(curve.label, 40),
        )
    axes.set_ylim(-0.02, 1.05)
    axes.set_xlim(min(float(c.days[0]) for c in curves), max(float(c.days[-1]) for c in curves))
    dress(axes, xlabel="time since baseline (days)", ylabel=ylabel)
    _median_line(axes)
    axes.legend(fontsize=FONT - 1, frameon=False, loc="best")
    add_note(figure, f"{curves[0].what}, research use")
    return render(figure, image_format)


def _median_line(axes: Axes) -> None:
    axes.axhline(0.5, color=INK, linewidth=0.4, linestyle=":")
