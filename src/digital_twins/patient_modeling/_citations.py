"""The papers on which a twin rests: its equation, methods, and the sources of its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins.pharmacology import drug_library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.patient_modeling._twin import PatientTwin

_UNVERIFIED = "[verify]"
_EQUATION = (
    "Swanson, Alvord & Murray, Cell Prolif 2000;33:317, doi:10.1046/j.1365-2184.2000.00177.x",
    "Rockne et al., J Math Biol 2009;58:561, doi:10.1007/s00285-008-0219-6",
)
_THRESHOLD = "Swanson et al., Br J Cancer 2008;98:113, doi:10.1038/sj.bjc.6604125"
_TENSOR = "Fehrenbach & Mirebeau, J Math Imaging Vis 2014;49:123, doi:10.1007/s10851-013-0446-3"
_ENSEMBLE = "McKay, Beckman & Conover, Technometrics 1979, doi:10.2307/1268522"
_METHODS = {
    "map": "Marquardt, J SIAM 1963, doi:10.1137/0111030",
    "lm": "Marquardt, J SIAM 1963, doi:10.1137/0111030",
    "bayesian": "Del Moral, Doucet & Jasra, J R Stat Soc B 2006, doi:10.1111/j.1467-9868.2006.00553.x",
    "enkf": "Evensen, Ocean Dyn 2003, doi:10.1007/s10236-003-0036-9",
    "particle": "Liu & West 2001, doi:10.1007/978-1-4757-3437-9_10",
    "ekf": "Kalman, J Basic Eng 1960, doi:10.1115/1.3662552",
}


@dataclass(frozen=True, slots=True)
class Citation:
    """One source.

    Attributes
    ----------
    used_for
        What the twin takes from it.
    reference
        Authors, place and DOI where there is one; an assumption is named as one.
    verified
        False where the value was not read in the source itself.
    """

    used_for: str
    reference: str
    verified: bool = True


def citations(twin: PatientTwin) -> tuple[Citation, ...]:
    """Return the sources of a twin's current version: equation, solver, priors, drugs given, calibration.

    Each pair of use and reference once, in that order. Uses of one reference for several numbers of a drug or
    of the priors are joined.
    """
    joined: dict[tuple[str, bool], list[str]] = {}
    for each in _all(twin):
        uses = joined.setdefault((each.reference, each.verified), [])
        if each.used_for not in uses:
            uses.append(each.used_for)
    return tuple(
        Citation("; ".join(uses), reference, verified) for (reference, verified), uses in joined.items()
    )


def _all(twin: PatientTwin) -> Iterator[Citation]:
    yield Citation("growth equation", _EQUATION[0])
    kinds = {treatment.kind for treatment in twin.treatment_history}
    if "radiation" in kinds:
        yield Citation("growth equation with radiation", _EQUATION[1])
    yield Citation("density at the visible edge", _THRESHOLD, verified=False)
    if twin._simulator.tensor is not None:
        yield Citation("anisotropic diffusion", _TENSOR)
    for prior in twin.snapshot.belief.priors:
        yield _marked(f"prior of {prior.name}", prior.source)
    library = drug_library()
    for drug in sorted({t.drug for t in twin.treatment_history if t.drug and t.drug in library}):
        for name, parameter in library[drug].parameters.items():
            yield Citation(f"{drug}: {name}", parameter.source, parameter.verified)
    done = {s.calibration.method for s in twin.history if s.calibration is not None}
    for method in sorted(done & _METHODS.keys()):
        yield Citation(f"calibration ({method})", _METHODS[method])
    yield Citation("ensemble of a forecast", _ENSEMBLE)


def _marked(used_for: str, source: str) -> Citation:
    words = " ".join(source.replace(_UNVERIFIED, "").split()).replace(" )", ")")
    return Citation(used_for, words, verified=_UNVERIFIED not in source)
