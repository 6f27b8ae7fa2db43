"""Targeted drugs as the kill rate of a mixture of sensitive and resistant cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.models import Forcing, clone_log_survival
from digital_twins.patient_modeling._context import parameter
from digital_twins.pharmacology import KillTerms, drug_library, kill_terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment

REFERENCE_DAYS = 21.0
"""Days of daily dosing to which the sensitivity to a drug without kinetics refers."""
NODE_DAYS = 0.5
"""Between these nodes the kill rate is constant; its integral at a node is exact."""
_DECAYED = 20.0


def targeted_forcing(
    treatment: Treatment, parameters: Mapping[str, float], context: TumourContext | None
) -> Forcing:
    """Return the kill rate of both clones together, the same in every voxel.

    With equal growth of both clones it is exact on the nodes
    (:func:`digital_twins.models.clone_log_survival`). All doses of one drug belong in one treatment, as they
    select the same clone. Different drugs act independently: resistance to one says nothing of the other.

    Raises
    ------
    InputError
        When ``targeted_sensitivity:<drug>`` or ``resistant_fraction:<drug>`` is missing or out of range, or
        the drug has no kinetics.
    """
    drug = treatment.drug or ""
    sensitivity = parameter(parameters, f"targeted_sensitivity:{drug}", "a targeted drug")
    fraction = parameter(parameters, f"resistant_fraction:{drug}", "a targeted drug")
    if fraction > 1.0:
        raise InputError(
            f"The resistant fraction is {fraction:g}.", "It is a part of the cells.", "Use 0 to 1."
        )
    terms = _sensitive_kill(treatment, sensitivity)
    if not terms.dose_days.size:
        return Forcing()
    cost = parameters.get("resistance_growth_cost", 0.0) * parameters.get("proliferation_per_day", 0.0)
    decays = terms.decay_per_day[terms.decay_per_day > 0.0]
    first, last = float(terms.dose_days.min()), float(terms.dose_days.max())
    end = last + (_DECAYED / float(decays.min()) if decays.size else 0.0)
    nodes = first + NODE_DAYS * np.arange(int(np.ceil((end - first) / NODE_DAYS)) + 1)
    survival = clone_log_survival(
        np.maximum(terms.integral(nodes), 0.0),
        fraction,
        elapsed_days=nodes - first,
        growth_gap_per_day=cost,
    )
    rates = -np.diff(survival) / NODE_DAYS
    # Without a cost nothing is left to happen after the last node; with one its rate goes on.
    steps = np.concatenate([rates[:1], np.diff(rates), -rates[-1:]]).astype(np.float64)
    days = nodes.astype(np.float64)
    if cost > 0.0:
        steps, days = steps[:-1], days[:-1]
    return Forcing(dose_days=days, amplitude_per_day=steps, decay_per_day=np.zeros(days.size))


def _sensitive_kill(treatment: Treatment, sensitivity: float) -> KillTerms:
    """Kill rate of sensitive cells by the drug's kinetics.

    Where none are known: evenly over the day that follows each dose, whatever its size.
    """
    if treatment.drug in drug_library():
        return kill_terms(treatment, sensitivity)
    start = np.array([dose.day for dose in treatment.doses])
    rate = np.full(start.size, sensitivity / REFERENCE_DAYS)
    return KillTerms(
        np.concatenate([start, start + 1.0]), np.concatenate([rate, -rate]), np.zeros(2 * start.size)
    )
