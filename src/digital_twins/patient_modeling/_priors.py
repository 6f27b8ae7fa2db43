"""What is believed of a tumour before its follow-up is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.calibration import Prior
from digital_twins.patient_modeling._radiation_priors import radiation_priors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIFFUSION = "diffusion_mm2_per_day"
PROLIFERATION = "proliferation_per_day"
BASELINE_SCALE = "baseline_volume_scale"
DRUG = "drug_sensitivity"

VOLUME_LOG_SD = 0.1
"""Standard deviation of the logarithm of a segmented volume: about 10 % between readers [verify]."""

_GROWTH = {
    "glioma": (
        0.08,
        0.03,
        "chosen so that a 16 mm radius doubles its volume in about 50 days, the published median of "
        "untreated glioblastoma (Stensjoen et al. 2015, doi:10.1093/neuonc/nov029 [verify])",
    ),
    "lung": (
        0.03,
        0.015,
        "chosen so that a 20 mm radius doubles its volume in about 5 months, within published doubling times "
        "of non-small-cell lung cancer [verify]",
    ),
    "tumour": (0.05, 0.02, "between the published glioma and lung magnitudes, an assumption"),
}
_WORDS = {
    "glioma": ("glioma", "glioblastoma", "gbm", "astrocytoma", "brain"),
    "lung": ("lung", "nsclc", "pulmonary"),
    "breast": ("breast", "mamma"),
    "liver": ("liver", "hepat", "hcc"),
    "head_and_neck": ("head and neck", "hnscc", "oropharyn", "laryn"),
}


def tumour_family(clinical_data: Mapping[str, Any] | None) -> str:
    """Return the family of priors that the clinical data name, "tumour" for any other."""
    data = clinical_data or {}
    texts = (data.get(key) for key in ("tumor_type", "tumour_type", "diagnosis", "cancer_type", "site"))
    text = " ".join(str(value) for value in texts if value).lower()
    return next((family for family, words in _WORDS.items() if any(w in text for w in words)), "tumour")


def growth_priors(family: str, clinical_data: Mapping[str, Any] | None = None) -> tuple[Prior, ...]:
    """Priors of a new twin; ``family`` as :func:`tumour_family` returns it from the same clinical data."""
    diffusion, proliferation, source = _GROWTH.get(family, _GROWTH["tumour"])
    return (
        Prior(DIFFUSION, diffusion, 0.8, 0.001, 2.0, "mm2/d", source),
        Prior(PROLIFERATION, proliferation, 0.6, 0.0005, 0.5, "/d", source),
        Prior(
            BASELINE_SCALE,
            1.0,
            VOLUME_LOG_SD,
            0.5,
            2.0,
            "1",
            "true over segmented baseline volume; volumes differ by about 10 % between readers [verify]",
        ),
        *radiation_priors(family, clinical_data),
        drug_prior(DRUG),
    )


def replaced_priors(priors: Sequence[Prior], given: Sequence[Prior]) -> tuple[Prior, ...]:
    """Return the priors with those given in the place of their namesakes.

    Raises
    ------
    InputError
        When a given prior has a name that is not among them.
    """
    own = {prior.name: prior for prior in given}
    unknown = sorted(own.keys() - {prior.name for prior in priors})
    if unknown:
        raise InputError(
            f"The prior '{unknown[0][:60]}' belongs to no parameter.",
            "Its name is not one of the model's.",
            f"Use {', '.join(prior.name for prior in priors)}.",
        )
    return tuple(own.get(prior.name, prior) for prior in priors)


def drug_prior(name: str) -> Prior:
    """Prior of a drug's log kill in one reference cycle."""
    return Prior(name, 0.5, 0.6, 0.005, 6.0, "1", "an assumption: a cycle kills about two cells in five")
