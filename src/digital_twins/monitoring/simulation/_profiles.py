"""Patient profiles as data: who a (virtual) patient is, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError
from digital_twins.monitoring.simulation._scenarios import SCENARIOS
from digital_twins.monitoring.twin import Body

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, eq=False)
class PatientProfile:
    """One virtual patient.

    Attributes
    ----------
    patient, bed
        Identifiers; those of the bundled profiles are made up.
    condition
        In words.
    body
        At rest.
    age_years
        For the page.
    oxygen_fraction
        Given from the start.
    spo2_scale
        NEWS2 scale for the saturation: 1, or 2 in hypercapnic failure as a clinician prescribed.
    scenario, onset_s
        A key of `SCENARIOS`, and when it begins.
    limits
        Own alert limits: rule id to value.
    """

    patient: str
    bed: str
    condition: str
    body: Body
    age_years: float
    oxygen_fraction: float = 0.21
    spo2_scale: int = 1
    scenario: str = "stable"
    onset_s: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)


def load_profiles(path: Path | None = None) -> list[PatientProfile]:
    """Read profiles from YAML; without a path the three bundled ones.

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        It is no YAML, or a profile lacks or misnames something.
    """
    import yaml

    try:
        text = (
            files("digital_twins.monitoring").joinpath("data/patient_profiles.yaml").read_text("utf-8")
            if path is None
            else path.read_text("utf-8")
        )
    except OSError:
        raise NotFoundError(
            "The patient profiles cannot be read.", "There is no such file.", "Give another path."
        ) from None
    try:
        rows = yaml.safe_load(text)["patients"]
        return [_profile(row) for row in rows]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The patient profiles cannot be used.",
            f"The file is not as documented ({type(error).__name__}).",
            "Compare it with the bundled patient_profiles.yaml.",
        ) from None


def _profile(row: dict[str, Any]) -> PatientProfile:
    values = {**row, "body": Body(**{name: float(value) for name, value in row.get("body", {}).items()})}
    profile = PatientProfile(**values)
    if profile.scenario not in SCENARIOS or profile.spo2_scale not in {1, 2}:
        raise ValueError("scenario or spo2_scale")
    return profile
