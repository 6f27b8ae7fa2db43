"""The tumour on its axial slice: image, measured contour, predicted contour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import ConflictError, InputError
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
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from digital_twins.imaging import Mask, Volume

_MARGIN_MM = 25.0


def slice_triptych(
    image: Volume,
    measured: Mask,
    predicted: Mask | None,
    *,
    predicted_day: float | None = None,
    size_mm: tuple[float, float] = (186.0, 64.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw the slice with the largest tumour area three times, cropped around the tumour.

    Parameters
    ----------
    image
        The image, ``[slice, row, column]``.
    measured, predicted
        Masks on the image's grid; without a prediction two panels are drawn.
    predicted_day
        Day of the prediction, for its title.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image; rows are drawn downwards and columns to the right with their true spacing.

    Raises
    ------
    InputError
        The measured mask is empty.
    ConflictError
        A mask is on another grid than the image.
    """
    _check(image, measured, predicted)
    number = int(np.argmax(np.count_nonzero(measured.array, axis=(1, 2))))
    box = _box(measured.array[number], predicted.array[number] if predicted else None, image.spacing_mm)
    pixels = np.asarray(image.array[number], dtype=np.float32)[box]
    low, high = _window(pixels, image.modality)
    figure = new_figure(size_mm, left_mm=2.0, right_mm=2.0, top_mm=5.0, bottom_mm=4.0)
    titles = ["image", "measured"]
    if predicted is not None:
        day = "" if predicted_day is None else f" day {predicted_day:g}"
        titles.append(f"PREDICTED{day}, NOT ACQUIRED")
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    aspect = image.spacing_mm[1] / image.spacing_mm[2]
    for axes, title in zip(panels, titles, strict=True):
        axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
        axes.set_title(title, fontsize=FONT, color=INK)
        axes.set_axis_off()
    for axes in panels[1:]:
        _outline(axes, measured.array[number][box], PALETTE[5], "solid")
    if predicted is not None:
        _outline(panels[2], predicted.array[number][box], PALETTE[4], "dashed")
        if not predicted.array[number].any():
            panels[2].text(
                0.5,
                0.04,
                "no tumour predicted on this slice",
                transform=panels[2].transAxes,
                fontsize=FONT - 1,
                color=PALETTE[4],
                ha="center",
            )
    _scale_bar(panels[0], pixels.shape, image.spacing_mm[2])
    place_mm = float(image.index_to_mm(np.array([number, 0.0, 0.0]))[2])
    add_note(figure, f"slice at z = {place_mm:.1f} mm, research use")
    return render(figure, image_format)


def _check(image: Volume, measured: Mask, predicted: Mask | None) -> None:
    for mask in (measured, predicted):
        if mask is not None and not (
            mask.shape == image.shape and np.allclose(mask.affine, image.affine, atol=1e-3)
        ):
            raise ConflictError(
                "The masks do not lie on the image.",
                "A mask has another grid than the image.",
                "Resample it first: imaging.resample(mask, image, interpolation='nearest').",
            )
    if not measured.array.any():
        raise InputError(
            "There is no tumour to draw.", "The measured mask is empty.", "Give a mask with voxels in it."
        )


def _box(
    measured: NDArray[np.bool_],
    predicted: NDArray[np.bool_] | None,
    spacing_mm: tuple[float, float, float],
) -> tuple[slice, slice]:
    """Return rows and columns around both contours with a margin, as square as the image allows."""
    union = measured if predicted is None else measured | predicted
    rows, columns = np.nonzero(union)
    half_mm = 0.5 * max(np.ptp(rows) * spacing_mm[1], np.ptp(columns) * spacing_mm[2]) + _MARGIN_MM
    slices = []
    for found, size, step in zip((rows, columns), union.shape, spacing_mm[1:], strict=True):
        middle, half = 0.5 * (found.min() + found.max()), half_mm / step
        slices.append(slice(max(0, int(middle - half)), min(size, int(middle + half) + 1)))
    return slices[0], slices[1]


def _window(pixels: NDArray[np.float32], modality: str | None) -> tuple[float, float]:
    """Return grey limits: a wide chest-to-soft-tissue window for CT, the 1st to 99th percentile otherwise."""
    if modality == "CT":
        return -600.0, 300.0
    low, high = np.percentile(pixels, (1.0, 99.0))
    return float(low), float(max(high, low + 1e-6))


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, style: str) -> None:
    if mask.any():
        axes.contour(mask.astype(np.float32), levels=[0.5], colors=[colour], linewidths=1.1, linestyles=style)


def _scale_bar(axes: Axes, shape: tuple[int, ...], column_mm: float, length_mm: float = 20.0) -> None:
    """Draw a bar of known length: without one a cropped image has no size."""
    left, bottom = 0.06 * shape[1], 0.94 * shape[0]
    axes.plot([left, left + length_mm / column_mm], [bottom, bottom], color="white", linewidth=2)
    axes.text(
        left, bottom - 0.025 * shape[0], f"{length_mm:g} mm", color="white", fontsize=FONT - 1, va="bottom"
    )
