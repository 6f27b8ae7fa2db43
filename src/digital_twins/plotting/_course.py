"""A twin's course: segmented volumes, the model with its interval, and the treatments below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    from matplotlib.axes import Axes

    from digital_twins.patient_modeling import PatientTwin, Prediction
    from digital_twins.records import Treatment

_MOST_TREATMENTS = 6


def twin_course(
    twin: PatientTwin,
    prediction: Prediction,
    *,
    size_mm: tuple[float, float] = (150.0, 82.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw volumes seen and modelled over time, with every treatment on a line of its own below.

    The last observation is marked: what lies right of it is forecast. At most six treatments are drawn.

    Parameters
    ----------
    twin, prediction
        The twin and one of its predictions.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.
    """
    given = [(t, False) for t in twin.treatment_history] + [(t, True) for t in prediction.treatments]
    given = [pair for pair in given if _days(pair[0]).size][:_MOST_TREATMENTS]
    strip_mm = 5.0 * len(given)
    bottom_mm = 12.0
    figure = new_figure(size_mm, left_mm=14, right_mm=3, top_mm=3, bottom_mm=bottom_mm)
    share = strip_mm / (size_mm[1] - bottom_mm - 3.0)
    if given:
        axes, strip = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [1.0 - share, share], "hspace": 0.06}
        )
        _treatments(strip, given, float(prediction.days[-1]))
        dress(strip, xlabel="time since baseline (days)", ylabel="")
        strip.tick_params(axis="y", length=0)
        strip.spines["left"].set_visible(False)
        axes.tick_params(axis="x", length=0, labelbottom=False)
    else:
        axes = figure.add_subplot()
    _volumes(axes, twin, prediction)
    dress(axes, xlabel="" if given else "time since baseline (days)", ylabel="tumour volume (cm³)")
    axes.set_xlim(0, float(prediction.days[-1]))
    add_note(figure)
    return render(figure, image_format)


def _volumes(axes: Axes, twin: PatientTwin, prediction: Prediction) -> None:
    days, now = prediction.days, prediction.origin_day
    colour = PALETTE[0]
    axes.fill_between(days, prediction.low_cm3, prediction.high_cm3, color=colour, alpha=0.15, linewidth=0)
    past, future = days <= now, days >= now
    axes.plot(days[past], prediction.volume_cm3[past], color=colour, linewidth=1.3)
    axes.plot(
        days[future],
        prediction.volume_cm3[future],
        color=colour,
        linewidth=1.3,
        linestyle="--",
        label=f"model (forecast dashed), {100 * prediction.interval:g} % interval",
    )
    seen = [(0.0, twin.baseline_volume_cm3), *((visit.day, visit.volume_cm3) for visit in twin.visits)]
    axes.plot(
        *zip(*seen, strict=True),
        linestyle="none",
        marker="o",
        markersize=4,
        color=INK,
        label="segmented",
        clip_on=False,
    )
    axes.axvline(now, color=INK, linewidth=0.6, linestyle=":")
    highest = float(max(prediction.high_cm3.max(), *(volume for _, volume in seen)))
    axes.set_ylim(0, 1.18 * highest)
    axes.text(now, 1.16 * highest, " last observation", fontsize=FONT - 1.5, color=INK, ha="left", va="top")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="best")


def _treatments(axes: Axes, given: list[tuple[Treatment, bool]], last_day: float) -> None:
    for row, (treatment, planned) in enumerate(given):
        colour, marker = PALETTE[(row + 1) % len(PALETTE)], MARKERS[(row + 1) % len(MARKERS)]
        days = _days(treatment)
        axes.plot(
            days,
            np.full(days.size, row),
            linestyle="none",
            marker=marker,
            markersize=2.6,
            color=colour,
            markerfacecolor="white" if planned else colour,
            markeredgewidth=0.7,
            clip_on=False,
        )
        words = cut(treatment.label, 60) + (" (planned)" if planned else "")
        to_left = days[-1] > 0.55 * last_day and days[0] > 0.3 * last_day
        axes.annotate(
            words,
            (days[0] if to_left else days[-1], row),
            xytext=(-5 if to_left else 5, 0),
            textcoords="offset points",
            fontsize=FONT - 1.5,
            ha="right" if to_left else "left",
            va="center",
            color=INK,
        )
    axes.set_ylim(len(given) - 0.5, -0.5)
    axes.set_yticks([])


def _days(treatment: Treatment) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    days = [d.day for d in treatment.doses] + [f.day for f in treatment.fractions]
    if treatment.day is not None and not days:
        days = [treatment.day]
    return np.array(sorted(set(days)), dtype=np.float64)
