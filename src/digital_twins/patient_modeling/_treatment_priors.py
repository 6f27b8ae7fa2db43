"""What is believed of a patient's response to targeted drugs and immunotherapy before it is seen."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from digital_twins.calibration import Belief, Prior
from digital_twins.pharmacology import antibody_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from digital_twins.records import Treatment

EFFECTOR_TURNOVER = "effector_turnover_per_day"
IMMUNE_HALF_BURDEN = "immune_half_burden_cm3"
RESISTANCE_COST = "resistance_growth_cost"

_RESISTANT = {
    "erlotinib": (
        1.0e-2,
        "chosen so that resistant cells at the prior growth rate of lung cancer (0.015/day) make up the "
        "tumour again after 10.2 months, the median progression-free survival of the standard arm of FLAURA, "
        "doi:10.1056/NEJMoa1713137",
    ),
    "osimertinib": (
        1.8e-4,
        "chosen as for erlotinib, for 18.9 months: the osimertinib arm of FLAURA, doi:10.1056/NEJMoa1713137",
    ),
}
_RESISTANT_OTHER = (1.0e-2, "as for erlotinib, an assumption")


def immune_kill(axis: str) -> str:
    """Name of the parameter for the kill rate by effectors that the block of a checkpoint sets free."""
    return f"immune_kill_per_day:{axis}"


def targeted_sensitivity(drug: str) -> str:
    """Name of the parameter for the log kill of sensitive cells in 21 days of standard dosing."""
    return f"targeted_sensitivity:{drug}"


def resistant_fraction(drug: str) -> str:
    """Name of the parameter for the part of the cells that a drug does not kill, when it is first given."""
    return f"resistant_fraction:{drug}"


def treatment_priors(treatments: Iterable[Treatment]) -> tuple[Prior, ...]:
    """Priors of the parameters that these targeted and immune treatments need, each once."""
    found: dict[str, Prior] = {}
    for treatment in treatments:
        drug = treatment.drug or ""
        if treatment.kind == "targeted":
            found.update({prior.name: prior for prior in _targeted(drug)})
        elif treatment.kind == "immunotherapy" and drug in antibody_library():
            found.update({prior.name: prior for prior in _immune(antibody_library()[drug].axis)})
    return tuple(found.values())


def _targeted(drug: str) -> tuple[Prior, ...]:
    fraction, source = _RESISTANT.get(drug, _RESISTANT_OTHER)
    return (
        Prior(
            targeted_sensitivity(drug),
            0.9,
            0.5,
            0.01,
            10.0,
            "1",
            "chosen so that most lung tumours of prior growth respond within twelve weeks: 76 to 80 % of the "
            "patients of FLAURA responded, doi:10.1056/NEJMoa1713137",
        ),
        Prior(resistant_fraction(drug), fraction, 1.5, 1e-9, 0.99, "1", source),
    )


def _immune(axis: str) -> tuple[Prior, ...]:
    return (
        Prior(
            immune_kill(axis),
            0.008,
            1.2,
            1e-5,
            1.0,
            "/d",
            "chosen so that about a fifth of lung tumours of prior growth respond within 18 weeks, the "
            "rate of pembrolizumab in treated lung cancer (KEYNOTE-010, "
            "doi:10.1016/S0140-6736(15)01281-7 [verify])",
        ),
        Prior(
            EFFECTOR_TURNOVER,
            0.0412,
            0.0,
            0.0412,
            0.0412,
            "/d",
            "death rate of effector cells, Kuznetsov et al. 1994, doi:10.1007/BF02460644, held fixed",
        ),
        Prior(
            IMMUNE_HALF_BURDEN,
            0.02,
            0.0,
            0.02,
            0.02,
            "cm3",
            "2.019e7 cells of Kuznetsov et al. 1994, doi:10.1007/BF02460644, at 1e9 cells a cm3, held fixed",
        ),
    )


def informed_by(treatments: Iterable[Treatment], last_day: float) -> tuple[str, ...]:
    """Names of these parameters that visits up to a day can inform, fixed ones left out."""
    begun = [t for t in treatments if any(dose.day < last_day for dose in t.doses)]
    return tuple(prior.name for prior in treatment_priors(begun) if not prior.fixed)


def completed(
    members: Sequence[Mapping[str, float]], treatments: Iterable[Treatment], *, seed: int
) -> list[dict[str, float]]:
    """Add draws of what the members do not know yet and the treatments need.

    Each parameter has a random stream of its own, so that plans with and without a drug share the rest of
    the ensemble.
    """
    made = [dict(member) for member in members]
    for prior in treatment_priors(treatments):
        if made and prior.name not in made[0]:
            own = seed + zlib.crc32(prior.name.encode())
            draws = Belief.from_priors([prior]).sample(len(made), seed=own)
            made = [{**member, **draw} for member, draw in zip(made, _shuffled(draws, own), strict=True)]
    return made


def _shuffled(draws: list[dict[str, float]], seed: int) -> list[dict[str, float]]:
    """Break the pairing of mirrored draws with those of other parameters."""
    import numpy as np

    return [draws[i] for i in np.random.default_rng(seed).permutation(len(draws))]
