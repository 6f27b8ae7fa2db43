"""Fitting: priors, least squares, samplers, filters, populations. It knows no tumour and no patient."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.calibration._axes import (
        covariance_root as covariance_root,
        principal_axes as principal_axes,
    )
    from digital_twins.calibration._belief import (
        Belief as Belief,
        Estimate as Estimate,
        Particles as Particles,
        Prior as Prior,
    )
    from digital_twins.calibration._filters import (
        Gaussian as Gaussian,
        Measurement as Measurement,
        effective_sample_size as effective_sample_size,
        ekf_predict as ekf_predict,
        ekf_update as ekf_update,
        enkf_update as enkf_update,
        reweighted as reweighted,
        shrunk_kernel as shrunk_kernel,
        systematic_resample as systematic_resample,
    )
    from digital_twins.calibration._fit import Fit as Fit, fit_least_squares as fit_least_squares
    from digital_twins.calibration._identifiability import (
        Direction as Direction,
        Identifiability as Identifiability,
        identifiability as identifiability,
    )
    from digital_twins.calibration._population import (
        Individuals as Individuals,
        Population as Population,
        SeriesBatch as SeriesBatch,
        fit_individuals as fit_individuals,
        fit_population as fit_population,
        forecast_individuals as forecast_individuals,
    )
    from digital_twins.calibration._smc import (
        PosteriorSamples as PosteriorSamples,
        SamplerOptions as SamplerOptions,
        sample_posterior as sample_posterior,
    )

_WHERE = {
    **dict.fromkeys(("covariance_root", "principal_axes"), "digital_twins.calibration._axes"),
    **dict.fromkeys(("Belief", "Estimate", "Particles", "Prior"), "digital_twins.calibration._belief"),
    **dict.fromkeys(
        (
            "Gaussian",
            "Measurement",
            "effective_sample_size",
            "ekf_predict",
            "ekf_update",
            "enkf_update",
            "reweighted",
            "shrunk_kernel",
            "systematic_resample",
        ),
        "digital_twins.calibration._filters",
    ),
    **dict.fromkeys(
        ("Direction", "Identifiability", "identifiability"), "digital_twins.calibration._identifiability"
    ),
    **dict.fromkeys(
        ("PosteriorSamples", "SamplerOptions", "sample_posterior"), "digital_twins.calibration._smc"
    ),
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
