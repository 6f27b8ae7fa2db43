"""Chemotherapy as a kill rate that follows the drug's concentration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.models import Forcing
from digital_twins.patient_modeling._context import parameter
from digital_twins.pharmacology import kill_terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment


def drug_parameter(drug: str, parameters: Mapping[str, float]) -> str:
    """Name of the parameter that holds the sensitivity to a drug.

    ``drug_sensitivity:<drug>`` where the patient has one, else ``drug_sensitivity``.
    """
    own = f"drug_sensitivity:{drug}"
    return own if own in parameters else "drug_sensitivity"


def _resistance_per_day(drug: str, parameters: Mapping[str, float]) -> float:
    """Rate at which a drug's effect is lost: its own, else the common one, else none."""
    common = "drug_resistance_per_day"
    name = f"{common}:{drug}" if f"{common}:{drug}" in parameters else common
    return parameter(parameters, name, "chemotherapy") if name in parameters else 0.0


def drug_forcing(
    treatment: Treatment, parameters: Mapping[str, float], context: TumourContext | None
) -> Forcing:
    """Return the kill-rate terms of a cytotoxic drug, the same in every voxel.

    Raises
    ------
    InputError
        When the sensitivity is missing or negative, or the drug has no kinetics.
    """
    drug = treatment.drug or ""
    terms = kill_terms(
        treatment,
        parameter(parameters, drug_parameter(drug, parameters), "chemotherapy"),
        resistance_per_day=_resistance_per_day(drug, parameters),
        since_day=treatment.first_day,
    )
    return Forcing(
        dose_days=terms.dose_days,
        amplitude_per_day=terms.amplitude_per_day,
        decay_per_day=terms.decay_per_day,
    )
