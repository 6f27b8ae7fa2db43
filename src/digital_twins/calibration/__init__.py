"""Fitting: priors, least squares, Laplace intervals, populations. It knows no tumour and no patient."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.calibration._belief import Belief as Belief, Estimate as Estimate, Prior as Prior
    from digital_twins.calibration._fit import Fit as Fit, fit_least_squares as fit_least_squares
    from digital_twins.calibration._population import (
        Individuals as Individuals,
        Population as Population,
        SeriesBatch as SeriesBatch,
        fit_individuals as fit_individuals,
        fit_population as fit_population,
        forecast_individuals as forecast_individuals,
    )

_WHERE = {
    **dict.fromkeys(("Belief", "Estimate", "Prior"), "digital_twins.calibration._belief"),
    **dict.fromkeys(("Fit", "fit_least_squares"), "digital_twins.calibration._fit"),
    **dict.fromkeys(
        (
            "Individuals",
            "Population",
            "SeriesBatch",
            "fit_individuals",
            "fit_population",
            "forecast_individuals",
        ),
        "digital_twins.calibration._population",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
