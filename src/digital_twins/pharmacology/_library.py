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
from digital_twins.pharmacology._saturable import SaturableModel
from digital_twins.records import DRUG_KINDS, canonical_drug

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.records import TreatmentKind

_SATURABLE = {
    **{name: name for name in ("central_volume_l", "vmax_mg_h", "km_mg_l", "return_per_h")},
    **{name: name for name in ("transfer_vmax_mg_h", "transfer_km_mg_l")},
    "flow_2_l_h": "flow_l_h",
    "peripheral_2_volume_l": "peripheral_volume_l",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number with its unit and source.

    Attributes
    ----------
    verified
        False where the value was not read in that source.
    cv
        Coefficient of variation between patients, of the same source; 0 where none is known.
    """

    value: float
    unit: str
    source: str
    verified: bool
    cv: float = 0.0


@dataclass(frozen=True, slots=True)
class Drug:
    """Typical adult kinetics of one drug.

    Attributes
    ----------
    parameters
        ``clearance_l_h``, ``central_volume_l``, optional ``flow_N_l_h`` with ``peripheral_N_volume_l`` and
        ``absorption_per_h``; apparent values (CL/F, V/F) for oral drugs. Saturable drugs have the constants
        of :class:`SaturableModel` instead of a clearance.
    infusion_hours
        Length of an infusion when the treatment does not say (0 for oral drugs).
    reference_dose_mg, reference_administrations, reference_regimen
        Milligrams in one standard cycle at 1.8 m2, in so many equal administrations: the dose to which a
        sensitivity refers.
    effect_half_life_days
        Half-life of the delay between concentration and cell death.
    analyte
        What the concentration is of.
    resistance_per_day
        Typical rate at which the effect is lost since the first dose, and its spread between patients: a
        prior for :func:`kill_terms`, which assumes none by itself.
    """

    name: str
    kind: TreatmentKind
    route: str
    parameters: Mapping[str, Parameter]
    infusion_hours: float
    reference_dose_mg: float
    reference_administrations: int
    reference_regimen: str
    effect_half_life_days: Parameter
    analyte: str
    resistance_per_day: Parameter

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the parameters whose value was not read in its source."""
        named = {**self.parameters, "effect_half_life_days": self.effect_half_life_days}
        return tuple(name for name, parameter in named.items() if not parameter.verified)

    @property
    def saturable(self) -> SaturableModel | None:
        """The constants of a drug with Michaelis-Menten elimination; None for linear kinetics."""
        if "vmax_mg_h" not in self.parameters:
            return None
        values = {name: p.value for name, p in self.parameters.items()}
        given = {name: values[key] for key, name in _SATURABLE.items() if key in values}
        return SaturableModel(**given)

    @property
    def response(self) -> Exponentials:
        """Concentration in mg/L after 1 mg, as exponentials in hours; of a small dose if saturable."""
        if (model := self.saturable) is not None:
            return model.small_dose_response()
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
        reference_administrations=data["reference"]["administrations"],
        reference_regimen=data["reference"]["regimen"],
        effect_half_life_days=Parameter(**data["effect_half_life_days"]),
        analyte=data.get("analyte", name),
        resistance_per_day=Parameter(**data["resistance_per_day"]),
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
