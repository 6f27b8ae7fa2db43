"""The predicted tumour on its slice, day after day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import resample
from digital_twins.plotting._slices import _scale_bar, _window
from digital_twins.plotting._style import (
    FONT,
    INK,
    PALETTE,
    ImageFormat,
    Picture,
    add_note,
    new_figure,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from digital_twins.patient_modeling import PatientTwin, Prediction

_MOST_DAYS = 6
_LEVELS = (0.05, 0.5, 0.95)


def predicted_slices(
    twin: PatientTwin,
    prediction: Prediction,
    days: Sequence[float],
    *,
    panel_mm: float = 42.0,
    image_format: ImageFormat = "png",
) -> Picture:
    """Draw the slice through the middle of the baseline lesion on several days.

    The mean cell density lies in colour over the baseline image (or the domain, where there is none); lines
    enclose where the visible tumour is with a probability of 5 % (dotted), 50 % (solid) and 95 % (dashed),
    and the black-and-white line is the baseline outline. The image is the baseline's on every panel: none was
    acquired on these days.

    Parameters
    ----------
    twin, prediction
        The twin and one of its predictions.
    days
        One to six days that the prediction covers.
    panel_mm
        Width and height of a panel.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        No day, more than six, or one that the prediction does not cover.
    """
    if not 0 < len(days) <= _MOST_DAYS:
        raise InputError(
            "The slices cannot be drawn.", f"{len(days)} days were given.", f"Give 1 to {_MOST_DAYS} days."
        )
    lesion = twin.lesion
    k = int(np.argmax(np.count_nonzero(lesion.array, axis=(1, 2))))
    outline = lesion.array[k]
    background, (low, high) = _background(twin, k)
    spacing = lesion.spacing_mm
    figure = new_figure(
        (panel_mm * len(days) + 4, panel_mm * _ratio(outline.shape, spacing) + 12),
        left_mm=2,
        right_mm=2,
        top_mm=6,
        bottom_mm=5,
    )
    panels = figure.subplots(1, len(days), squeeze=False)[0]
    aspect = spacing[1] / spacing[2]
    for axes, day in zip(panels, days, strict=True):
        axes.imshow(background, cmap="gray", vmin=low, vmax=high, aspect=aspect)
        _draw_day(axes, prediction, day, outline=outline, k=k, aspect=aspect)
    _scale_bar(panels[0], outline.shape, spacing[2])
    add_note(
        figure, "density in colour; tumour with probability 5 % dotted, 50 % solid, 95 % dashed; research use"
    )
    return render(figure, image_format)


def _background(twin: PatientTwin, k: int) -> tuple[NDArray[Any], tuple[float, float]]:
    """Slice k of the baseline image, or of the domain where there is none, and its display window."""
    if twin.image is None:
        return 0.45 * twin.domain.array[k], (0.0, 1.0)
    picture = resample(twin.image, twin.lesion).array[k]
    return picture, _window(picture.astype(np.float32), twin.image.modality)


def _draw_day(
    axes: Axes, prediction: Prediction, day: float, *, outline: NDArray[np.bool_], k: int, aspect: float
) -> None:
    """Lay density, baseline outline and lines of probability of one day over the background."""
    density = np.asarray(prediction.density_at(day).array[k])
    probability = np.asarray(prediction.probability_at(day).array[k])
    axes.imshow(
        density,
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=np.clip(1.5 * density, 0.0, 0.7),
        aspect=aspect,
        interpolation="nearest",
    )
    axes.contour(outline.astype(float), levels=[0.5], colors=["white"], linewidths=1.0)
    axes.contour(outline.astype(float), levels=[0.5], colors=["black"], linewidths=0.5, linestyles="--")
    for level, style in zip(_LEVELS, ("dotted", "solid", "dashed"), strict=True):
        if probability.min() < level < probability.max():
            axes.contour(probability, levels=[level], colors=[PALETTE[5]], linewidths=0.9, linestyles=style)
    seen = "" if day <= prediction.origin_day else ", PREDICTED"
    axes.set_title(f"day {day:g}{seen}", fontsize=FONT, color=INK, pad=3)
    axes.set_axis_off()


def _ratio(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> float:
    return (shape[0] * spacing[1]) / (shape[1] * spacing[2])
