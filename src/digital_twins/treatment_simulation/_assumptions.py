"""What lies behind a response besides data: assumed, not verified, not calibrated in this patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from digital_twins.pharmacology import antibody, drug, drug_library

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from digital_twins.calibration import Estimate
    from digital_twins.records import Treatment

INDEPENDENT = "treatments act independently: no synergy and no antagonism"


def assumptions(treatments: Sequence[Treatment], parameters: Mapping[str, Estimate]) -> tuple[str, ...]:
    """Return everything behind a response that was assumed, not verified, or not calibrated here."""
    words: dict[str, None] = {}
    clearance = parameters.get("clearance_half_life_days")
    irradiated = any(treatment.fractions for treatment in treatments)
    if irradiated and clearance is not None and clearance.source != "calibrated":
        words[f"dead cells cleared with a half-life of {clearance.value:.0f} days: a prior"] = None
    for treatment in treatments:
        words.update(dict.fromkeys(treatment.assumptions))
        words.update(dict.fromkeys(_of_kind(treatment, parameters)))
    if len({treatment.kind for treatment in treatments} - {"observation"}) > 1:
        words[INDEPENDENT] = None
    return tuple(words)


def _of_kind(treatment: Treatment, parameters: Mapping[str, Estimate]) -> list[str]:
    name = treatment.drug
    if treatment.kind == "radiation" and not _known("alpha_per_gy", parameters, absent=True):
        return ["radiosensitivity not calibrated in this patient: wide prior"]
    if treatment.kind == "surgery":
        return ["the cavity is not removed from the tissue: cells can grow back into it"]
    if treatment.kind == "immunotherapy" and name is not None:
        return _of_antibody(name, parameters)
    if name is None:
        return []
    if treatment.kind == "targeted":
        words = []
        if not _known(f"targeted_sensitivity:{name}", parameters):
            words.append(f"sensitivity and resistance to {name} not calibrated in this patient: wide prior")
        if name not in drug_library():
            return [*words, f"{name}: no kinetics, an even effect over the day after each dose"]
    else:
        words = []
        if not _known(f"drug_sensitivity:{name}", parameters):
            words.append(f"sensitivity to {name} not calibrated in this patient: wide prior")
    entry = drug(name)
    return words + _library_notes(entry.name, entry.unverified, None)


def _of_antibody(name: str, parameters: Mapping[str, Estimate]) -> list[str]:
    entry = antibody(name)
    words = ["effector cells are well mixed, and one kill rate holds for the whole lesion"]
    if not _known(f"immune_kill_per_day:{entry.axis}", parameters):
        words.append(f"response to {entry.target} block not calibrated in this patient: wide prior")
    return words + _library_notes(name, entry.unverified, entry.linearised)


def _library_notes(name: str, unverified: Sequence[str], linearised: str | None) -> list[str]:
    notes = [f"{name}: not verified in a source: {', '.join(unverified)}"] if unverified else []
    return [*notes, linearised] if linearised else notes


def _known(name: str, parameters: Mapping[str, Estimate], *, absent: bool = False) -> bool:
    estimate = parameters.get(name)
    return absent if estimate is None else estimate.source == "calibrated"
