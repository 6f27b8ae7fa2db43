"""What is believed of a twin's parameters: before the data and after."""

from __future__ import annotations

import math
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
    dress,
    new_figure,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from digital_twins.calibration import Belief, Prior
    from digital_twins.patient_modeling import PatientTwin

_COLUMNS = 3
_PANEL_MM = (56.0, 38.0)
_GREY = "#8a8a8a"


def parameter_posterior(
    twin: PatientTwin, *, truth: Mapping[str, float] | None = None, image_format: ImageFormat = "svg"
) -> Picture:
    """Draw one panel for each uncertain parameter: its prior, its belief now, and the 95 % interval.

    Densities are those of the logarithm, on a logarithmic axis, so that areas compare. A parameter that data
    have not informed shows its prior alone.

    Parameters
    ----------
    twin
        The twin; its current version is drawn.
    truth
        Known values by name (of a phantom), marked by a dashed line.

    Returns
    -------
    Picture
        The image, reproducible byte by byte.

    Raises
    ------
    InputError
        Every parameter of the twin is held fixed.
    """
    belief = twin.snapshot.belief
    shown = [i for i, prior in enumerate(belief.priors) if not prior.fixed]
    if not shown:
        raise InputError(
            "There is no parameter to draw.",
            "All of them are held fixed.",
            "Draw a twin with uncertain ones.",
        )
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(
        (_PANEL_MM[0] * columns, _PANEL_MM[1] * rows + 4.0), left_mm=4, right_mm=4, top_mm=6, bottom_mm=12
    )
    figure.subplots_adjust(hspace=0.85, wspace=0.16)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, index in zip(panels, shown, strict=False):
        _panel(axes, belief, index, (truth or {}).get(belief.names[index]))
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    panels[0].legend(fontsize=FONT - 1.5, frameon=False, loc="upper left", handlelength=1.2)
    add_note(figure, f"95 % intervals shaded, version {twin.version}, research use")
    return render(figure, image_format)


def _panel(axes: Axes, belief: Belief, index: int, truth: float | None) -> None:
    prior = belief.priors[index]
    informed = prior.name in belief.calibrated
    mean = float(belief.log_mean[index])
    spread = math.sqrt(max(float(belief.log_covariance[index, index]), 1e-12))
    start = math.log(prior.median)
    wide = max(prior.log_sd, spread)
    logs = np.linspace(min(start, mean) - 3.0 * wide, max(start, mean) + 3.0 * wide, 401)
    values = np.exp(logs)
    before = _density(logs, start, prior.log_sd)
    axes.plot(values, before, color=_GREY, linewidth=1.0, linestyle="--", label="prior")
    top = before.max()
    if informed:
        estimate = belief.estimates()[prior.name]
        after = _belief_density(logs, belief, prior.name, mean=mean, spread=spread)
        inside = (values >= estimate.low) & (values <= estimate.high)
        axes.plot(values, after, color=PALETTE[0], linewidth=1.3, label="calibrated")
        axes.fill_between(values, 0, after, where=list(inside), color=PALETTE[0], alpha=0.18, linewidth=0)
        top = max(top, after.max())
    if truth is not None:
        axes.axvline(truth, color=PALETTE[1], linewidth=1.0, linestyle=(0, (4, 2)), label="truth")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.12 * top)
    dress(axes, xlabel=_unit(prior), ylabel="")
    _ticks(axes, values)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    state = "" if informed else ", not informed by data"
    axes.set_title(_words(prior.name) + state, fontsize=FONT, color=INK, loc="left", pad=3)


def _ticks(axes: Axes, values: NDArray[np.float64]) -> None:
    """Put a few ticks with plain numbers on the axis: powers of ten alone say little over one decade."""
    low, high = float(values[0]), float(values[-1])
    if high / low < 6.0:
        ticks = [float(f"{t:.2g}") for t in np.exp(np.linspace(math.log(low), math.log(high), 5)[1:-1])]
    else:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if high / low < 30.0 else (1, 3) if high / low < 300.0 else (1,)
        ticks = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()


def _density(logs: NDArray[np.float64], mean: float, spread: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((logs - mean) / spread) ** 2) / spread)


def _belief_density(
    logs: NDArray[np.float64], belief: Belief, name: str, *, mean: float, spread: float
) -> NDArray[np.float64]:
    """Return a normal density, or that of the samples where a sampler gave them (a kernel estimate)."""
    cloud = belief.particles
    if cloud is None or name not in cloud.names:
        return _density(logs, mean, spread)
    column = cloud.logs[:, cloud.names.index(name)]
    effective = 1.0 / float(np.sum(cloud.weights**2))
    middle = float(cloud.weights @ column)
    width = 1.06 * float(np.sqrt(cloud.weights @ (column - middle) ** 2)) * effective**-0.2
    each = np.exp(-0.5 * ((logs[:, None] - column) / max(width, 1e-6)) ** 2) / max(width, 1e-6)
    return np.asarray(each @ cloud.weights)


def _unit(prior: Prior) -> str:
    return {"1": "no unit", "mm2/d": "mm² per day", "/d": "per day", "/Gy": "per Gy"}.get(
        prior.unit, prior.unit
    )


def _words(name: str) -> str:
    """Return a parameter's name without its unit, in words."""
    plain = name
    for suffix in ("_mm2_per_day", "_per_day", "_per_gy", "_gy"):
        plain = plain.removesuffix(suffix)
    return plain.replace("_", " ").replace(":", ": ")
