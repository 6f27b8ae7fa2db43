"""Fitting: priors, least squares, Laplace intervals, populations. It knows no tumour and no patient."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.calibration._belief import Belief as Belief
    from digital_twins.calibration._belief import Estimate as Estimate
    from digital_twins.calibration._belief import Prior as Prior
    from digital_twins.calibration._fit import Fit as Fit
    from digital_twins.calibration._fit import fit_least_squares as fit_least_squares
    from digital_twins.calibration._population import Individuals as Individuals
    from digital_twins.calibration._population import Population as Population
    from digital_twins.calibration._population import SeriesBatch as SeriesBatch
    from digital_twins.calibration._population import fit_individuals as fit_individuals
    from digital_twins.calibration._population import fit_population as fit_population
    from digital_twins.calibration._population import forecast_individuals as forecast_individuals

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
