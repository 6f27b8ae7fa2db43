"""From treatments and a patient's sensitivities to the plain arrays that the solvers take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.models import Forcing
from digital_twins.patient_modeling._drug_forcing import drug_forcing
from digital_twins.patient_modeling._radiation_forcing import radiation_forcing
from digital_twins.patient_modeling._surgery_forcing import surgery_forcing
from digital_twins.patient_modeling._targeted_forcing import targeted_forcing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment

    Kind = Callable[[Treatment, Mapping[str, float], TumourContext | None], Forcing]

_KINDS: dict[str, Kind] = {
    "chemotherapy": drug_forcing,
    "radiation": radiation_forcing,
    "surgery": surgery_forcing,
    "targeted": targeted_forcing,
}
SIMULATED_KINDS = (*_KINDS, "immunotherapy", "observation")
"""The kinds of treatment whose effect on the tumour is modelled."""


def needs_state(treatments: Iterable[Treatment]) -> bool:
    """Whether an effect depends on the tumour at the time, so that no forcing can be laid out before."""
    return any(treatment.kind in ("surgery", "immunotherapy") for treatment in treatments)


def refuse_unsimulated(treatments: Iterable[Treatment]) -> None:
    """Raise when a treatment's effect is not modelled, rather than leave it out in silence.

    Raises
    ------
    InputError
        For a kind outside ``SIMULATED_KINDS``.
    """
    for treatment in treatments:
        if treatment.kind not in SIMULATED_KINDS:
            raise InputError(
                f"A {treatment.kind} treatment cannot be simulated.",
                "Its effect on the tumour is not modelled, and leaving it out would give a wrong forecast.",
                f"Simulate {', '.join(SIMULATED_KINDS)}, or leave the {treatment.kind} out knowingly.",
            )


def _until(treatment: Treatment, horizon_days: float | None) -> Treatment:
    """Leave out what is given after the horizon."""
    if horizon_days is None:
        return treatment
    return replace(
        treatment,
        doses=tuple(dose for dose in treatment.doses if dose.day <= horizon_days),
        fractions=tuple(fraction for fraction in treatment.fractions if fraction.day <= horizon_days),
    )


def one_course_a_drug(treatments: Iterable[Treatment]) -> list[Treatment]:
    """Join treatments with one drug: their doses meet the same resistance."""
    joined: list[Treatment] = []
    at: dict[str, int] = {}
    for treatment in treatments:
        drug = treatment.drug if treatment.kind in ("chemotherapy", "targeted") else None
        if drug is not None and drug in at:
            before = joined[at[drug]]
            joined[at[drug]] = replace(
                before, doses=tuple(sorted(before.doses + treatment.doses, key=lambda d: d.day))
            )
            continue
        if drug is not None:
            at[drug] = len(joined)
        joined.append(treatment)
    return joined


def forcing_for(
    treatments: Iterable[Treatment],
    parameters: Mapping[str, float],
    *,
    horizon_days: float | None = None,
    context: TumourContext | None = None,
) -> Forcing:
    """Turn treatments into jumps and kill-rate terms for one set of parameter values.

    Parameters
    ----------
    treatments
        In days since the twin's baseline; several act together and the logs of survival add (independent
        action, no synergy).
    parameters
        Values by name: ``alpha_per_gy`` and ``alpha_beta_gy`` for radiation; for a cytotoxic drug
        ``drug_sensitivity:<drug>``, else ``drug_sensitivity``, the natural-log kill of one reference cycle,
        and, in the same two forms, ``drug_resistance_per_day``, which may be missing
        (:func:`digital_twins.pharmacology.kill_terms`), resistance counting from the first dose of the drug
        in any of the treatments; for a targeted drug ``targeted_sensitivity:<drug>``, that of sensitive
        cells, and ``resistant_fraction:<drug>``.
    horizon_days
        Administrations after it are dropped; None keeps all.
    context
        The tumour on the day of the treatments, for those that act by place.

    Raises
    ------
    InputError
        For immunotherapy, whose kill rate follows the burden (see ``_course``), when a kind of treatment is
        not modelled, a parameter is missing or negative, or a context is.
    """
    items = tuple(treatments)
    refuse_unsimulated(items)
    if any(treatment.kind == "immunotherapy" for treatment in items):
        raise InputError(
            "Immunotherapy cannot be laid out before the tumour is known.",
            "Its kill rate follows the tumour's burden, which the other treatments change.",
            "Simulate it on a patient's twin.",
        )
    total = Forcing()
    for treatment in one_course_a_drug(_until(item, horizon_days) for item in items):
        if treatment.kind in _KINDS:
            total = total + _KINDS[treatment.kind](treatment, parameters, context)
    return total
