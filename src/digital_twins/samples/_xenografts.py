"""The erlotinib-treated lung-cancer xenografts of Eigenmann 2016, as the forecast takes them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from digital_twins.treatment_simulation import PlasmaSample, XenograftMouse

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = {
    "control": "lxf_control_growth.csv",
    "low": "lxf_low_erlotinib_dose.csv",
    "medium": "lxf_medium_erlotinib_dose.csv",
    "high": "lxf_high_erlotinib_dose.csv",
    "single": "lxf_single_erlotinib_dose.csv",
}
_NOMINAL_MG_PER_KG = {"low": 6.25, "medium": 25.0, "high": 100.0, "single": 100.0}
"""Nominal doses of the arms; the milligrams over body weight in the files agree within a few percent."""


@dataclass(frozen=True, slots=True)
class XenograftStudy:
    """Mice by arm (``"control"``, ``"low"``, ``"medium"``, ``"high"``) and the plasma samples of all arms."""

    arms: Mapping[str, tuple[XenograftMouse, ...]]
    plasma: tuple[PlasmaSample, ...]
    source: str


def _doses(rows: list[dict[str, str]], arm: str) -> tuple[tuple[float, float], ...]:
    days = sorted(float(row["Time"]) for row in rows if row.get("Dose"))
    return tuple((day, _NOMINAL_MG_PER_KG[arm]) for day in days)


def _values(rows: list[dict[str, str]], observable: str) -> list[tuple[float, float]]:
    found = [
        (float(row["Time"]), float(row["Value"]))
        for row in rows
        if row["Observable"] == observable and row["Value"]
    ]
    return sorted(found)


def erlotinib() -> XenograftStudy:
    """Return the study: tumour volumes in cm3 by day, doses in mg/kg, plasma concentrations in mg/L.

    The files say ng/mL for the plasma; the numbers are ug/mL (mg/L), which is how they are returned: see
    docs/science/xenografts.md. Patient-derived lung xenograft, erlotinib by mouth; data files of the PyPI
    package chi-drm 1.0.3 (BSD-3-Clause), study Eigenmann et al., Mol Cancer Ther 2016;15:3110.
    """
    folder = resources.files("digital_twins.samples").joinpath("data/erlotinib")
    arms: dict[str, tuple[XenograftMouse, ...]] = {}
    plasma: list[PlasmaSample] = []
    for arm, name in _FILES.items():
        text = folder.joinpath(name).read_text("utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        mice: list[XenograftMouse] = []
        for mouse in sorted({row["ID"] for row in rows}, key=int):
            own = [row for row in rows if row["ID"] == mouse]
            doses = _doses(own, arm) if arm in _NOMINAL_MG_PER_KG else ()
            plasma.extend(PlasmaSample(d, c, doses, arm) for d, c in _values(own, "Plasma concentration"))
            readings = _values(own, "Tumour volume")
            if readings:
                days, volumes = zip(*readings, strict=True)
                mice.append(XenograftMouse(mouse, arm, days, volumes, doses))
        if mice:
            arms[arm] = tuple(mice)
    return XenograftStudy(
        arms=MappingProxyType(arms),
        plasma=tuple(plasma),
        source="Eigenmann et al., Mol Cancer Ther 2016;15:3110; data files of chi-drm 1.0.3, BSD-3-Clause",
    )
