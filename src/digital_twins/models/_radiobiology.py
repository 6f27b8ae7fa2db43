"""The linear-quadratic law of radiation survival."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def lq_log_survival(dose_gy: ArrayLike, alpha_per_gy: float, alpha_beta_gy: float) -> NDArray[np.float64]:
    """Natural logarithm of the surviving fraction, ``-(alpha d + beta d^2)``, beta = alpha/(alpha/beta).

    One acute exposure with full repair before the next. Fowler, Br J Radiol 1989;62:679,
    doi:10.1259/0007-1285-62-740-679.

    Parameters
    ----------
    dose_gy
        Dose of each fraction in gray, any shape, not negative.
    alpha_per_gy
        Linear coefficient in 1/Gy, not negative.
    alpha_beta_gy
        Ratio of the linear to the quadratic coefficient in Gy, positive.

    Returns
    -------
    numpy.ndarray
        Log survival (<= 0) with the shape of ``dose_gy``.

    Raises
    ------
    InputError
        When a dose is negative or not finite, or a coefficient is out of range.
    """
    dose = np.asarray(dose_gy, dtype=np.float64)
    if not np.all(np.isfinite(dose)) or np.any(dose < 0.0):
        raise InputError(
            "A radiation dose is negative or not a number.",
            "The linear-quadratic law is defined for doses of 0 Gy and more.",
            "Give every fraction as a finite dose in gray.",
        )
    if not (np.isfinite(alpha_per_gy) and alpha_per_gy >= 0.0 and alpha_beta_gy > 0.0):
        raise InputError(
            "A radiosensitivity coefficient is out of range.",
            f"alpha is {alpha_per_gy:g} per Gy and alpha/beta is {alpha_beta_gy:g} Gy.",
            "Use alpha >= 0 per Gy and alpha/beta > 0 Gy.",
        )
    return -alpha_per_gy * dose * (1.0 + dose / alpha_beta_gy)
