"""Radiation courses to jumps of the solver: one number a fraction, or a map of survival."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging import (
    Dose,
    Plan,
    RigidRegistration,
    Volume,
    dose_on_grid,
    dose_per_fraction,
    load_dose,
    load_plan,
)
from digital_twins.models import Forcing, Radiosensitivity, SurvivalMap, fraction_log_survival

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digital_twins.patient_modeling._context import TumourContext
    from digital_twins.records import Treatment


def with_dose_map(treatment: Mapping[str, Any] | Treatment) -> Mapping[str, Any] | Treatment:
    """Read the dose map of a radiation treatment, if it has one, so that it can be laid out.

    Parameters
    ----------
    treatment
        A dictionary; with ``dose_map`` (path, bytes or data set of an RTDOSE, a list of these, an
        :class:`~digital_twins.imaging.Dose`, or a :class:`~digital_twins.imaging.Volume` in gray of the whole
        course), optionally ``plan`` (RTPLAN, or a :class:`~digital_twins.imaging.Plan`), ``fractions``, and
        ``registration`` (a :class:`~digital_twins.imaging.RigidRegistration` from the dose's frame of
        reference to the twin's). A treatment, or a dictionary without these keys, comes back as it is.

    Returns
    -------
    Mapping or Treatment
        The dictionary with the dose of one fraction, the number of fractions and a nominal dose: the plan's
        prescription over its fractions, else the largest dose of the map.

    Raises
    ------
    InputError
        The dose or plan cannot be read, is in relative units, or does not say its fractions; or a plan
        without a dose map.
    """
    if not isinstance(treatment, Mapping) or not {"dose_map", "plan", "registration"} & set(treatment):
        return treatment
    given = {key: value for key, value in treatment.items() if value is not None}
    source = given.pop("dose_map", None)
    plan, registration = _plan(given.pop("plan", None)), given.pop("registration", None)
    if source is None:
        raise InputError(
            "A radiation treatment has a plan or a registration, but no dose map.",
            "The plan alone does not say where its dose goes.",
            "Add 'dose_map', or give 'total_dose_gy' and 'fractions'.",
        )
    dose = _dose(source)
    stated = given.get("fractions")
    count, volume = dose_per_fraction(dose, plan, fractions=None if stated is None else int(stated))
    if registration is not None:
        if not isinstance(registration, RigidRegistration):
            raise InputError(
                "The registration of a dose map is not a RigidRegistration.",
                f"It is {type(registration).__name__}.",
                "Use imaging.load_registrations, or RigidRegistration(matrix, from_frame, to_frame).",
            )
        volume = registration.apply(volume)
    if "dose_per_fraction_gy" not in given and "total_dose_gy" not in given:
        prescribed = None if plan is None else plan.prescribed_gy
        nominal = float(volume.array.max()) if prescribed is None else prescribed / count
        given["dose_per_fraction_gy"] = nominal
    return {**given, "type": given.get("type", "radiation"), "fractions": count, "dose_map": volume}


def _plan(source: Any) -> Plan | None:
    return source if source is None or isinstance(source, Plan) else load_plan(source)


def _dose(source: Any) -> Dose:
    if isinstance(source, Dose):
        return source
    return Dose(source, "PLAN", "PHYSICAL") if isinstance(source, Volume) else load_dose(source)


def on_model_grid(treatment: Treatment, grid: Volume) -> Treatment:
    """Bring a treatment's dose map to the model's grid.

    Raises
    ------
    InputError
        When the map belongs to another frame of reference or patient, or does not reach the grid.
    """
    if treatment.dose_map is None or treatment.dose_map.same_grid(grid):
        return treatment
    placed = dose_on_grid(treatment.dose_map, grid)
    placed.array.setflags(write=False)
    noted = {**treatment.as_given, "dose_map": f"sha256:{placed.digest()}"}
    return replace(treatment, dose_map=placed, as_given=noted)


def radiation_forcing(
    treatment: Treatment, parameters: Mapping[str, float], context: TumourContext | None
) -> Forcing:
    """Jumps of a course, and the faster growth that it provokes.

    ``parameters`` hold ``alpha_per_gy`` and ``alpha_beta_gy`` (the treatment's own ratio wins).
    """
    given = sorted(treatment.fractions, key=lambda fraction: fraction.day)
    if not given:
        return Forcing()
    days = np.array([fraction.day for fraction in given])
    sensitivity = _sensitivity(treatment, parameters)
    regrowth = _repopulation(treatment)
    if treatment.dose_map is None:
        doses = np.array([fraction.dose_gy for fraction in given])
        logs = fraction_log_survival(doses, days, sensitivity)
        return regrowth + Forcing(jump_days=days, jump_log_survival=logs)
    maps = _survival_maps(treatment.dose_map.array, days, sensitivity)
    return regrowth + Forcing(survival_maps=maps)


def _sensitivity(treatment: Treatment, parameters: Mapping[str, float]) -> Radiosensitivity:
    own = {} if treatment.radiation is None else treatment.radiation.stated()
    names = {"oxygen_enhancement_ratio": "oxygen_enhancement"}
    modifiers = {names.get(key, key): value for key, value in own.items() if key not in _NOT_MODIFIERS}
    ratio = own.get("alpha_beta_gy")
    return Radiosensitivity(
        _positive(parameters, "alpha_per_gy"),
        _positive(parameters, "alpha_beta_gy") if ratio is None else ratio,
        **modifiers,
    )


_NOT_MODIFIERS = ("alpha_beta_gy", "kick_off_day", "doubling_days")


def _positive(parameters: Mapping[str, float], name: str) -> float:
    if name not in parameters:
        raise InputError(
            f"The parameter '{name}' is missing.",
            "It is needed to simulate radiation.",
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


def _repopulation(treatment: Treatment) -> Forcing:
    """Faster growth from the kick-off to the last fraction: a negative kill rate."""
    effect = treatment.radiation
    if effect is None or effect.kick_off_day is None or effect.doubling_days is None:
        return Forcing()
    first = min(fraction.day for fraction in treatment.fractions)
    last = max(fraction.day for fraction in treatment.fractions)
    start = first + effect.kick_off_day
    if start >= last:
        return Forcing()
    rate = math.log(2.0) / effect.doubling_days
    return Forcing(
        dose_days=np.array([start, last]),
        amplitude_per_day=np.array([-rate, rate]),
        decay_per_day=np.zeros(2),
    )


def _survival_maps(
    dose_gy: NDArray[Any], days: NDArray[np.float64], sensitivity: Radiosensitivity
) -> tuple[SurvivalMap, ...]:
    """One map a fraction; fractions that act alike share one array."""
    inside = dose_gy > 0.0
    doses = np.asarray(dose_gy[inside], dtype=np.float64)
    alike = sensitivity.repair_half_life_hours == 0.0 and sensitivity.hypoxic_fraction == 0.0
    counted = 1 if alike else days.size
    logs = fraction_log_survival(np.broadcast_to(doses, (counted, doses.size)), days[:counted], sensitivity)
    made = []
    for each in logs:
        survival = np.ones(dose_gy.shape)
        survival[inside] = np.exp(each)
        survival.setflags(write=False)
        made.append(survival)
    return tuple(
        SurvivalMap(float(day), made[0 if alike else i], leaves_dead_cells=True) for i, day in enumerate(days)
    )
