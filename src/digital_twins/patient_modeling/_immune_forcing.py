"""Checkpoint antibodies as effector cells beside the tumour, whose kill rate follows its burden."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.models import EffectorDynamics, ImmuneCourse
from digital_twins.patient_modeling._context import parameter
from digital_twins.patient_modeling._treatment_priors import (
    EFFECTOR_TURNOVER,
    IMMUNE_HALF_BURDEN,
    immune_kill,
)
from digital_twins.pharmacology import antibody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from digital_twins.records import DrugDose, Treatment


def immune_courses(
    treatments: Iterable[Treatment], parameters: Mapping[str, float]
) -> tuple[float, tuple[ImmuneCourse, ...]]:
    """Return the day on which effectors begin to act, and their dynamics, one a checkpoint.

    A block recruits effectors, ``E' = d (q T / (g + T) - E)``, which kill each tumour cell at the rate
    ``kappa E``: q is the blocked part of the checkpoint, T the tumour's burden in cm3, d the effectors'
    turnover. Without a drug E is 0: the immune defence that was there before is part of the calibrated
    growth. Antibodies against one checkpoint share its block (``q = 1 - product of the free parts``);
    checkpoints act independently.

    Raises
    ------
    InputError
        When a parameter is missing or negative, or the drug is no checkpoint antibody.
    """
    axes: dict[str, list[tuple[str, tuple[DrugDose, ...]]]] = {}
    for treatment in treatments:
        if treatment.kind == "immunotherapy" and treatment.doses:
            drug = antibody(treatment.drug or "")
            axes.setdefault(drug.axis, []).append((drug.name, treatment.doses))
    first = min((dose.day for given in axes.values() for _, doses in given for dose in doses), default=np.inf)
    courses = []
    for axis, given in axes.items():
        turnover = parameter(parameters, EFFECTOR_TURNOVER, "immunotherapy")
        dynamics = EffectorDynamics(
            recruitment_per_day=turnover,
            loss_per_day=turnover,
            half_burden=parameter(parameters, IMMUNE_HALF_BURDEN, "immunotherapy"),
            kill=parameter(parameters, immune_kill(axis), "immunotherapy"),
        )
        courses.append(ImmuneCourse(dynamics, _blocked(tuple(given))))
    return float(first), tuple(courses)


@lru_cache(maxsize=16)
def _blocked(given: tuple[tuple[str, tuple[DrugDose, ...]], ...]) -> Callable[[float], float]:
    """Blocked part of a checkpoint as a function of the day; members of an ensemble share it."""
    antibodies = [(antibody(name), doses) for name, doses in given]

    @lru_cache(maxsize=4096)
    def blocked(day: float) -> float:
        free = 1.0
        for drug, doses in antibodies:
            free *= 1.0 - float(drug.occupancy(doses, day))
        return 1.0 - free

    return blocked
