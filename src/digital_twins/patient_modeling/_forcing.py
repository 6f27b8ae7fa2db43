"""From treatments and a patient's sensitivities to the plain arrays that the solvers take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.models import Forcing
from digital_twins.patient_modeling._radiation_forcing import radiation_forcing
from digital_twins.pharmacology import kill_terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from digital_twins.records import Treatment

SIMULATED_KINDS = ("chemotherapy", "radiation", "observation")
"""The kinds of treatment whose effect on the tumour is modelled."""


def refuse_unsimulated(treatments: Iterable[Treatment]) -> None:
    """Raise when a treatment's effect is not modelled, rather than leave it out in silence.

    Raises
    ------
    InputError
        For surgery, immunotherapy and targeted treatments.
    """
    for treatment in treatments:
        if treatment.kind not in SIMULATED_KINDS:
            raise InputError(
                f"A {treatment.kind} treatment cannot be simulated.",
                "Its effect on the tumour is not modelled, and leaving it out would give a wrong forecast.",
                f"Simulate {', '.join(SIMULATED_KINDS)}, or leave the {treatment.kind} out knowingly.",
            )


def drug_parameter(drug: str, parameters: Mapping[str, float]) -> str:
    """Name of the parameter that holds the sensitivity to a drug.

    ``drug_sensitivity:<drug>`` where the patient has one, else ``drug_sensitivity``.
    """
    own = f"drug_sensitivity:{drug}"
    return own if own in parameters else "drug_sensitivity"


def _value(parameters: Mapping[str, float], name: str, needed_for: str) -> float:
    if name not in parameters:
        raise InputError(
            f"The parameter '{name}' is missing.",
            f"It is needed to simulate {needed_for}.",
            f"Give '{name}' among the parameters.",
        )
    value = float(parameters[name])
    if not math.isfinite(value) or value < 0.0:
        raise InputError(
            f"The parameter '{name}' is {value:g}.",
            "A sensitivity is a finite number and not negative.",
            "Calibrate again, or correct the parameter.",
        )
    return value


def _resistance_per_day(drug: str, parameters: Mapping[str, float]) -> float:
    """Rate at which a drug's effect is lost: its own, else the common one, else none."""
    common = "drug_resistance_per_day"
    name = f"{common}:{drug}" if f"{common}:{drug}" in parameters else common
    return _value(parameters, name, "chemotherapy") if name in parameters else 0.0


def _chemotherapy(
    treatment: Treatment,
    parameters: Mapping[str, float],
    horizon_days: float | None,
    first_days: Mapping[str, float],
) -> Forcing:
    drug = treatment.drug or ""
    terms = kill_terms(
        treatment,
        _value(parameters, drug_parameter(drug, parameters), "chemotherapy"),
        resistance_per_day=_resistance_per_day(drug, parameters),
        since_day=first_days.get(drug),
    )
    keep = np.full(terms.dose_days.shape, fill_value=True)
    if horizon_days is not None:
        keep = terms.dose_days <= horizon_days
    return Forcing(
        dose_days=terms.dose_days[keep],
        amplitude_per_day=terms.amplitude_per_day[keep],
        decay_per_day=terms.decay_per_day[keep],
    )


def forcing_for(
    treatments: Iterable[Treatment],
    parameters: Mapping[str, float],
    *,
    horizon_days: float | None = None,
) -> Forcing:
    """Turn treatments into jumps and kill-rate terms for one set of parameter values.

    Parameters
    ----------
    treatments
        In days since the twin's baseline; several act together and the logs of survival add (independent
        action, no synergy).
    parameters
        Values by name: ``alpha_per_gy`` and ``alpha_beta_gy`` for radiation; for a drug
        ``drug_sensitivity:<drug>``, else ``drug_sensitivity``, the natural-log kill of one reference cycle,
        and, in the same two forms, ``drug_resistance_per_day``, which may be missing
        (:func:`digital_twins.pharmacology.kill_terms`). Resistance counts from the first dose of the drug in
        any of the treatments.
    horizon_days
        Administrations after it are dropped; None keeps all.

    Raises
    ------
    InputError
        When a kind of treatment is not modelled, or a parameter is missing or negative.
    """
    items = tuple(treatments)
    refuse_unsimulated(items)
    total = Forcing()
    first_days = {
        drug: min(t.first_day for t in items if t.drug == drug and t.first_day is not None)
        for drug in {t.drug for t in items if t.drug and t.doses}
    }
    for treatment in items:
        if treatment.kind == "radiation":
            total = total + radiation_forcing(treatment, parameters, horizon_days)
        elif treatment.kind == "chemotherapy":
            total = total + _chemotherapy(treatment, parameters, horizon_days, first_days)
    return total
