"""How well a calibrated twin fits its scans, and what they do not tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.plotting._posterior import _words
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
    from matplotlib.axes import Axes

    from digital_twins.calibration import Belief
    from digital_twins.patient_modeling import CalibrationResult, PatientTwin


def fit_quality(
    twin: PatientTwin,
    *,
    size_mm: tuple[float, float] = (180.0, 74.0),
    image_format: ImageFormat = "svg",
) -> Picture:
    """Draw the residuals of the visits, and how the calibrated parameters hang together.

    Left: log(modelled / segmented volume) in standard deviations of the segmentation noise, the band being
    two of them. Right: posterior correlations (near -1 or 1: the scans determine a combination of the two
    only), and behind each name how much narrower its interval has become against the prior.

    Parameters
    ----------
    twin
        A calibrated twin.
    size_mm, image_format
        As in ``volume_timeline``.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        The twin was never calibrated.
    """
    calibration = twin.calibration
    if calibration is None:
        raise InputError(
            "There is no fit to draw.", "The twin was never calibrated.", "Call PatientTwin.calibrate first."
        )
    figure = new_figure(size_mm, left_mm=13, right_mm=22, top_mm=7, bottom_mm=12)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.0, 0.72], "wspace": 0.75})
    _residuals(left, calibration)
    _correlations(right, twin.snapshot.belief)
    add_note(figure, f"version {twin.version}, research use")
    return render(figure, image_format)


def _residuals(axes: Axes, calibration: CalibrationResult) -> None:
    days, residuals = np.array(calibration.days), np.array(calibration.residuals)
    axes.axhspan(-2, 2, color=PALETTE[0], alpha=0.08, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.vlines(days, 0, residuals, color=PALETTE[0], linewidth=1.0)
    axes.plot(days, residuals, linestyle="none", marker="o", markersize=4, color=PALETTE[0])
    reach = max(3.0, 1.2 * float(np.abs(residuals).max()))
    axes.set_ylim(-reach, reach)
    margin = 0.06 * max(float(np.ptp(days)), 1.0)
    axes.set_xlim(float(days.min()) - margin, float(days.max()) + margin)
    dress(axes, xlabel="day of the scan", ylabel="residual (standard deviations)")
    axes.set_title("modelled over segmented volume", fontsize=FONT, color=INK, loc="left")


def _correlations(axes: Axes, belief: Belief) -> None:
    names = [name for name in belief.names if name in belief.calibrated]
    where = [belief.names.index(name) for name in names]
    covariance = belief.log_covariance[np.ix_(where, where)]
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    correlation = covariance / np.outer(spread, spread)
    axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j in np.ndindex(correlation.shape):
        dark = abs(correlation[i, j]) > 0.6
        axes.text(
            j,
            i,
            f"{correlation[i, j]:.2f}",
            fontsize=FONT - 1.5,
            ha="center",
            va="center",
            color="white" if dark else INK,
        )
    labels = []
    for name, index, sd in zip(names, where, spread, strict=True):
        prior_sd = belief.priors[index].log_sd
        labels.append(f"{cut(_words(name), 24)}\ninterval ×{sd / prior_sd:.2f}")
    axes.set_yticks(range(len(names)), labels, fontsize=FONT - 1.5, color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("posterior correlation", fontsize=FONT, color=INK, loc="left")
