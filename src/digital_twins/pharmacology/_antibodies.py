"""Checkpoint antibodies: two-compartment kinetics and the part of the target that they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from digital_twins._errors import InputError
from digital_twins.pharmacology._compartments import Exponentials, compartment_model
from digital_twins.pharmacology._library import Parameter
from digital_twins.records import canonical_drug

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from digital_twins.records import DrugDose


@dataclass(frozen=True, slots=True)
class Antibody:
    """Typical adult kinetics of a checkpoint antibody.

    Attributes
    ----------
    target, axis
        What it binds, and the checkpoint that it blocks by that: ``"pd1"`` for PD-1 and PD-L1, ``"ctla4"``.
    parameters
        ``clearance_l_d``, ``central_volume_l``, ``flow_l_d``, ``peripheral_volume_l``, and
        ``half_occupancy_mg_l``, the serum concentration that holds half of the target.
    linearised
        Where the linear model departs from the antibody's kinetics, or None.
    """

    name: str
    target: str
    axis: str
    parameters: Mapping[str, Parameter]
    linearised: str | None

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the parameters whose value was not read in its source."""
        return tuple(name for name, parameter in self.parameters.items() if not parameter.verified)

    @property
    def response(self) -> Exponentials:
        """Serum concentration in mg/L after 1 mg given at once, as exponentials in days."""
        values = {name: parameter.value for name, parameter in self.parameters.items()}
        # The compartment model knows one unit of time; its name says hours, here they are days.
        return compartment_model(
            clearance_l_h=values["clearance_l_d"],
            central_volume_l=values["central_volume_l"],
            peripherals=[(values["flow_l_d"], values["peripheral_volume_l"])],
        )

    def concentration_mg_l(self, doses: Iterable[DrugDose], days: ArrayLike) -> NDArray[np.float64]:
        """Serum concentration in mg/L on each day; an infusion counts as given at its start."""
        times, given = np.asarray(days, dtype=np.float64), list(doses)
        begin = np.array([dose.day for dose in given])
        amount = np.array([dose.dose_mg for dose in given])
        return np.asarray(self.response(times[..., None] - begin) @ amount)

    def occupancy(self, doses: Iterable[DrugDose], days: ArrayLike) -> NDArray[np.float64]:
        """Part of the target that is held on each day, ``C / (C + C50)``, 0..1."""
        concentration = self.concentration_mg_l(doses, days)
        return np.asarray(concentration / (concentration + self.parameters["half_occupancy_mg_l"].value))


@lru_cache(maxsize=1)
def antibody_library() -> Mapping[str, Antibody]:
    """Return every checkpoint antibody with kinetics, by generic name (read-only)."""
    text = resources.files("digital_twins.pharmacology").joinpath("data/antibodies.json").read_text("utf-8")
    found = {}
    for entry in json.loads(text)["antibodies"]:
        parameters = {name: Parameter(**value) for name, value in entry["parameters"].items()}
        found[entry["name"]] = Antibody(
            name=entry["name"],
            target=entry["target"],
            axis=entry["axis"],
            parameters=MappingProxyType(parameters),
            linearised=entry.get("linearised"),
        )
    return MappingProxyType(found)


def antibody(name: str) -> Antibody:
    """Return one checkpoint antibody by generic or brand name.

    Raises
    ------
    InputError
        When the name is no known drug, or no antibody.
    """
    key = canonical_drug(name)
    library = antibody_library()
    if key not in library:
        raise InputError(
            f"{key} is not a checkpoint antibody.",
            "Immunotherapy is simulated by the block of a checkpoint.",
            f"Use one of: {', '.join(sorted(library))}.",
        )
    return library[key]
