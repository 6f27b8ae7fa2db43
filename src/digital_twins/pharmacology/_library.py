"""The drug library: typical adult kinetics with the source of every number, read from a data file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.pharmacology._compartments import Exponentials, compartment_model
from digital_twins.records import DRUG_KINDS, canonical_drug

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.records import TreatmentKind


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number with its unit and source; ``verified`` is False where it was not read in that source."""

    value: float
    unit: str
    source: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Drug:
    """Typical adult kinetics of one drug.

    Attributes
    ----------
    parameters
        ``clearance_l_h``, ``central_volume_l``, optional ``flow_N_l_h`` with ``peripheral_N_volume_l`` and
        ``absorption_per_h``; apparent values (CL/F, V/F) for oral drugs.
    infusion_hours
        Length of an infusion when the treatment does not say (0 for oral drugs).
    reference_dose_mg, reference_regimen
        Milligrams in one standard cycle at 1.8 m2: the dose to which a sensitivity refers.
    effect_half_life_days
        Half-life of the delay between concentration and cell death.
    analyte
        What the concentration is of.
    linearised
        Why and where the linear model departs from the drug's saturable kinetics, or None.
    """

    name: str
    kind: TreatmentKind
    route: str
    parameters: Mapping[str, Parameter]
    infusion_hours: float
    reference_dose_mg: float
    reference_regimen: str
    effect_half_life_days: Parameter
    analyte: str
    linearised: str | None

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the parameters whose value was not read in its source."""
        named = {**self.parameters, "effect_half_life_days": self.effect_half_life_days}
        return tuple(name for name, parameter in named.items() if not parameter.verified)

    @property
    def response(self) -> Exponentials:
        """Concentration in mg/L after 1 mg, as exponentials in hours."""
        values = {name: p.value for name, p in self.parameters.items()}
        peripherals = [
            (values[f"flow_{i}_l_h"], values[f"peripheral_{i}_volume_l"])
            for i in (1, 2)
            if f"flow_{i}_l_h" in values
        ]
        return compartment_model(
            clearance_l_h=values["clearance_l_h"],
            central_volume_l=values["central_volume_l"],
            peripherals=peripherals,
            absorption_per_h=values.get("absorption_per_h"),
        )


def _drug(data: Mapping[str, Any]) -> Drug:
    name = data["name"]
    return Drug(
        name=name,
        kind=DRUG_KINDS[name],
        route=data["route"],
        parameters=MappingProxyType({k: Parameter(**v) for k, v in data["parameters"].items()}),
        infusion_hours=data["infusion_hours"],
        reference_dose_mg=data["reference"]["value_mg"],
        reference_regimen=data["reference"]["regimen"],
        effect_half_life_days=Parameter(**data["effect_half_life_days"]),
        analyte=data.get("analyte", name),
        linearised=data.get("linearised"),
    )


@lru_cache(maxsize=1)
def drug_library() -> Mapping[str, Drug]:
    """Return every drug with kinetics, by generic name (read-only)."""
    text = resources.files("digital_twins.pharmacology").joinpath("data/drugs.json").read_text("utf-8")
    return MappingProxyType({entry["name"]: _drug(entry) for entry in json.loads(text)["drugs"]})


def drug(name: str) -> Drug:
    """Return one drug by generic or brand name.

    Raises
    ------
    InputError
        When the name is no known drug, or the drug has no kinetics here (antibodies).
    """
    key = canonical_drug(name)
    library = drug_library()
    if key not in library:
        raise InputError(
            f"There are no kinetics for {key}.",
            f"The linear small-molecule models here do not describe a {DRUG_KINDS[key]} drug of its kind.",
            f"Use one of: {', '.join(sorted(library))}.",
        )
    return library[key]
