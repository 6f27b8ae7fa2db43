"""Fitting: parameters with priors, least squares, Laplace intervals. It knows no tumour and no patient."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.calibration._belief import Belief as Belief
    from digital_twins.calibration._belief import Estimate as Estimate
    from digital_twins.calibration._belief import Prior as Prior
    from digital_twins.calibration._fit import Fit as Fit
    from digital_twins.calibration._fit import fit_least_squares as fit_least_squares

_WHERE = {
    **dict.fromkeys(("Belief", "Estimate", "Prior"), "digital_twins.calibration._belief"),
    **dict.fromkeys(("Fit", "fit_least_squares"), "digital_twins.calibration._fit"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
