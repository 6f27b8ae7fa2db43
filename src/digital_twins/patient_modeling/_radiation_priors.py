"""What is believed of a tumour's answer to radiation before it is seen, by site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.calibration import Prior

if TYPE_CHECKING:
    from collections.abc import Mapping

ALPHA = "alpha_per_gy"
ALPHA_BETA = "alpha_beta_gy"
CLEARANCE = "clearance_half_life_days"

_LOG_SD = 0.6
"""Spread of the logarithm of alpha between patients: wider than the published intervals of the mean."""


@dataclass(frozen=True, slots=True)
class SiteResponse:
    """Median radiosensitivity and clearance of a site, and where they come from."""

    alpha_per_gy: float
    alpha_beta_gy: float
    source: str
    clearance_days: float = 45.0
    clearance_source: str = "an assumption: that of lung tumours"


SITES = {
    "lung": SiteResponse(
        0.305,
        2.8,
        "early non-small-cell lung cancer, 36 cohorts, 95 % CI 0.120-0.365: Jeong 2017, "
        "doi:10.1158/1078-0432.CCR-16-3277 (abstract read)",
        clearance_source="geometric mean of 28 d (squamous) and 72 d (adenocarcinoma): Chvetsov 2008, "
        "doi:10.1088/0031-9155/53/9/013 (abstract read)",
    ),
    "glioma": SiteResponse(
        0.06,
        8.0,
        "between clonogens of glioblastoma, 0.12 (0.10-0.14) and alpha/beta 8 Gy (Pedicini 2014, "
        "doi:10.1007/s00066-014-0638-9 [verify doi], abstract read), and the net answer on MR, about 0.03 "
        "(Rockne 2009, doi:10.1007/s00285-008-0219-6 [verify])",
    ),
    "breast": SiteResponse(
        0.08, 2.9, "Qi 2011, Radiother Oncol 100:282, doi:10.1016/j.radonc.2011.01.010 [verify]"
    ),
    "liver": SiteResponse(
        0.010,
        15.0,
        "primary liver tumours, 0.010 +- 0.001: Tai 2008, Int J Radiat Oncol Biol Phys 70:900 "
        "(abstract read)",
    ),
    "head_and_neck": SiteResponse(
        0.25, 10.0, "usual value for squamous-cell carcinoma of head and neck [verify]"
    ),
    "tumour": SiteResponse(
        0.15, 10.0, "between the sites, an assumption; alpha/beta the usual value [verify]"
    ),
}
"""Site, as the family of priors names it, to its response."""

_HISTOLOGIES = {
    "squamous": (28.2, "squamous-cell carcinoma of the lung: Chvetsov 2008, doi:10.1088/0031-9155/53/9/013"),
    "adenocarcinoma": (72.4, "adenocarcinoma of the lung: Chvetsov 2008, doi:10.1088/0031-9155/53/9/013"),
}


def radiation_priors(family: str, clinical_data: Mapping[str, Any] | None = None) -> tuple[Prior, ...]:
    """Priors of radiosensitivity and of the clearance of dead cells.

    ``clinical_data`` may name the histology of a lung tumour, which decides the clearance.
    """
    site = SITES[family]
    days, source = site.clearance_days, site.clearance_source
    if family == "lung":
        text = " ".join(str(value) for value in (clinical_data or {}).values()).lower()
        named = [known for word, known in _HISTOLOGIES.items() if word in text]
        if len(named) == 1:
            days, source = named[0]
    ratio = site.alpha_beta_gy
    return (
        Prior(ALPHA, site.alpha_per_gy, _LOG_SD, 0.001, 2.0, "/Gy", site.source),
        Prior(ALPHA_BETA, ratio, 0.0, ratio, ratio, "Gy", f"held fixed; {site.source}"),
        Prior(CLEARANCE, days, 0.5, 3.0, 400.0, "d", source),
    )
