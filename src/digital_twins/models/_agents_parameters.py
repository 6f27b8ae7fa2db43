"""Parameters of the agent-based tumour, with units in their names and sources in their notes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from digital_twins._errors import InputError

Placement = Literal["free_neighbour", "random_neighbour", "well_mixed"]
PLACEMENTS = ("free_neighbour", "random_neighbour", "well_mixed")

_POSITIVE = (
    "cell_spacing_um",
    "step_days",
    "field_tolerance",
    "vessel_oxygen_mmhg",
    "oxygen_diffusion_um2_per_s",
    "oxygen_half_uptake_mmhg",
    "vessel_nutrient_mmol_per_l",
    "nutrient_diffusion_um2_per_s",
    "nutrient_half_uptake_mmol_per_l",
    "drug_diffusion_um2_per_s",
    "alpha_beta_gy",
    "oer_half_mmhg",
    "chemokine_range_um",
)
_SHARES = ("quiescent_uptake_share", "chemotaxis_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentParameters:
    """What the cells and fields of :class:`AgentBasedModel` do.

    Defaults describe no particular patient. Marked [verify]: from memory of the named source, or an order of
    magnitude; set what matters to your question.

    Attributes
    ----------
    cell_spacing_um
        Edge of a lattice site, one cell each; 20 [verify].
    step_days
        Longest time step; an hour. At most one division a cell and step.
    field_tolerance
        Largest imbalance left in a field, as a share of its vessel value.
    division_per_day
        Rate at which a proliferating cell tries to divide; ln 2, a doubling in a day [verify].
    placement
        Where the daughter goes: ``free_neighbour`` (any free face neighbour), ``random_neighbour`` (one at
        random, no division when it is taken: its mean field is the logistic law; Baker & Simpson 2010,
        doi:10.1016/j.physa.2009.12.030 [verify]), ``well_mixed`` (a random site of the whole lattice).
    migration_per_day
        Rate of attempts to step to a random face neighbour; free motion diffuses with rate h^2 / (2 axes).
    apoptosis_per_day
        Spontaneous death of living tumour cells, which leave at once; 0.02 [verify].
    necrosis_per_day
        Death below a necrosis threshold; 4, a mean of 6 hours, as in PhysiCell [verify].
    necrotic_clearance_per_day
        Removal of dead cells; 1/60, PhysiCell's lysis time [verify].
    vessel_oxygen_mmhg, oxygen_diffusion_um2_per_s
        40 mmHg [verify]; 2000 um2/s (Grimes 2014, doi:10.1098/rsif.2013.1124 [verify]).
    oxygen_uptake_mmhg_per_s, oxygen_half_uptake_mmhg
        Michaelis-Menten uptake of a site with a living cell: 22 mmHg/s (the same source, DLD-1 [verify]) with
        half of it at 1 mmHg [verify].
    vessel_nutrient_mmol_per_l, nutrient_diffusion_um2_per_s
        Glucose: 5 mM, 110 um2/s (Casciari 1988 [verify]).
    nutrient_uptake_mmol_per_l_s, nutrient_half_uptake_mmol_per_l
        0.0125 mM/s and 0.04 mM (Casciari 1992 [verify]). An uptake of 0 switches the field off.
    quiescent_uptake_share
        Uptake of a quiescent cell over that of a proliferating one; 0.5 [verify].
    hypoxia_oxygen_mmhg, necrosis_oxygen_mmhg
        Quiescent below the first, dying below the second: 5 and 2.5, the onset and full strength of necrosis
        in PhysiCell's defaults (doi:10.1371/journal.pcbi.1005991).
    hypoxia_nutrient_mmol_per_l, necrosis_nutrient_mmol_per_l
        The same for the nutrient; 0.5 and 0.05 [verify].
    drug_diffusion_um2_per_s, drug_uptake_per_s
        Penetration: first-order uptake by every cell; range sqrt(D/k) = 100 um [verify].
    alpha_per_gy, alpha_beta_gy
        Linear-quadratic law at full oxygen; 0.3 and 10 [verify].
    oer_maximum, oer_half_mmhg
        Dose is divided by OERmax (p + K) / (OERmax p + K) at the oxygen p; 3 and K = 3.28 mmHg (Alper &
        Howard-Flanders 1956, doi:10.1038/178978a0 [verify]).
    immune_entry_per_vessel_per_day, immune_death_per_day
        Immune cells that leave a vessel site a day (0: none) and their death; 0.1 [verify].
    immune_kill_per_day, immune_moves_per_day, chemotaxis_share
        Killing rate of an immune cell that touches a tumour cell, 10 [verify]; steps a day while it touches
        none, 100 [verify]; share of steps that climb the chemokine rather than wander.
    chemokine_range_um
        Decay length of the chemokine that living tumour cells release; 100 [verify].

    Raises
    ------
    InputError
        When a value is out of range, a necrosis threshold lies above its hypoxia threshold, or a step is too
        long for its rates.
    """

    cell_spacing_um: float = 20.0
    step_days: float = 1.0 / 24.0
    field_tolerance: float = 1.0e-4
    division_per_day: float = math.log(2.0)
    placement: Placement = "free_neighbour"
    migration_per_day: float = 0.0
    apoptosis_per_day: float = 0.02
    necrosis_per_day: float = 4.0
    necrotic_clearance_per_day: float = 1.0 / 60.0
    vessel_oxygen_mmhg: float = 40.0
    oxygen_diffusion_um2_per_s: float = 2000.0
    oxygen_uptake_mmhg_per_s: float = 22.0
    oxygen_half_uptake_mmhg: float = 1.0
    vessel_nutrient_mmol_per_l: float = 5.0
    nutrient_diffusion_um2_per_s: float = 110.0
    nutrient_uptake_mmol_per_l_s: float = 0.0125
    nutrient_half_uptake_mmol_per_l: float = 0.04
    quiescent_uptake_share: float = 0.5
    hypoxia_oxygen_mmhg: float = 5.0
    necrosis_oxygen_mmhg: float = 2.5
    hypoxia_nutrient_mmol_per_l: float = 0.5
    necrosis_nutrient_mmol_per_l: float = 0.05
    drug_diffusion_um2_per_s: float = 100.0
    drug_uptake_per_s: float = 0.01
    alpha_per_gy: float = 0.3
    alpha_beta_gy: float = 10.0
    oer_maximum: float = 3.0
    oer_half_mmhg: float = 3.28
    immune_entry_per_vessel_per_day: float = 0.0
    immune_death_per_day: float = 0.1
    immune_kill_per_day: float = 10.0
    immune_moves_per_day: float = 100.0
    chemotaxis_share: float = 0.5
    chemokine_range_um: float = 100.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "placement":
                self._check_number(each.name)
        if self.placement not in PLACEMENTS:
            raise InputError(
                "The placement of daughter cells is unknown.",
                f"It is {self.placement!r}.",
                f"Use one of {', '.join(PLACEMENTS)}.",
            )
        if (
            self.necrosis_oxygen_mmhg > self.hypoxia_oxygen_mmhg
            or self.necrosis_nutrient_mmol_per_l > self.hypoxia_nutrient_mmol_per_l
        ):
            raise InputError(
                "The thresholds of starvation contradict each other.",
                "Cells would die at a supply at which they still divide.",
                "Set each necrosis threshold at or below its hypoxia threshold.",
            )
        self._check_step()

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        low, strict = (1.0, False) if name == "oer_maximum" else (0.0, name in _POSITIVE)
        high = 1.0 if name in _SHARES else math.inf
        good = isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high
        if not good or (strict and value <= low):
            bound = "above 0" if strict else f"at least {low:g}"
            raise InputError(
                f"The agent parameter {name} cannot be used.",
                f"It is {value!r}; it must be a finite number {bound}"
                + (" and at most 1." if name in _SHARES else "."),
                "Check the value and its unit, which stands in the name.",
            )

    def _check_step(self) -> None:
        growth = math.expm1(min(self.division_per_day * self.step_days, 700.0))
        if growth > 1.0 or self.migration_per_day * self.step_days > 1.0:
            longest = min(
                math.log(2.0) / max(self.division_per_day, 1e-300), 1.0 / max(self.migration_per_day, 1e-300)
            )
            raise InputError(
                "The time step is too long for the cells' rates.",
                "A cell may divide once and move once a step, and would have to do so more often.",
                f"Set step_days to {longest:.3g} or less.",
            )
