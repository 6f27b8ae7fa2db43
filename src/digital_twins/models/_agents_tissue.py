"""One simulated tissue: its cells, its fields, and how a step changes them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models import _agents_kernels as _rules
from digital_twins.models._agents_fields import SUPPLIED, Multigrid
from digital_twins.models._agents_parameters import PLACEMENTS

if TYPE_CHECKING:
    from digital_twins.models._agents_parameters import AgentParameters

Array = NDArray[Any]
_INSIDE = (slice(1, -1),) * 3
_SECONDS_PER_DAY = 86400.0
_PURPOSES = 8


class Tissue:
    """Cells and fields of one run.

    Parameters
    ----------
    parameters, states, seed
        ``states`` is the start [slice, row, column] with vessels already marked.
    """

    def __init__(self, parameters: AgentParameters, states: Array, seed: int) -> None:
        self.parameters = parameters
        self.cells = np.pad(states.astype(np.uint8), 1, constant_values=_rules.WALL)
        self.ledger = np.zeros(len(_rules.EVENTS), np.int64)
        self._next = self.cells.copy()
        self._seed = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self._steps = 0
        strides = np.array(self.cells.strides, dtype=np.int64)
        wide = strides[np.array(states.shape) > 1]
        self._offsets = np.concatenate([wide, -wide])
        self._lists = tuple(np.empty(self.cells.size, np.int32) for _ in range(3))
        self._vessels = np.flatnonzero(self.cells.ravel() == _rules.VESSEL)
        self._oxygen = self._supplied(
            (1.0, parameters.oxygen_half_uptake_mmhg), parameters.vessel_oxygen_mmhg
        )
        self._nutrient: Multigrid | None = None
        self._drug: Multigrid | None = None
        self._chemokine: Multigrid | None = None

    @property
    def states(self) -> Array:
        """A copy of the cells without padding."""
        return self.cells[_INSIDE].copy()

    def counts(self) -> NDArray[np.int64]:
        """Number of sites in each state, EMPTY to VESSEL."""
        return np.bincount(self.cells.ravel(), minlength=_rules.WALL + 1)[: _rules.WALL].astype(np.int64)

    def oxygen(self) -> Array:
        """Oxygen in mmHg, padded, in balance with the cells as they are."""
        p = self.parameters
        uptake = p.oxygen_uptake_mmhg_per_s / p.oxygen_diffusion_um2_per_s
        return self._solve(self._oxygen, uptake, p.vessel_oxygen_mmhg)

    def nutrient(self) -> Array:
        """Nutrient in mM, padded."""
        p = self.parameters
        if self._nutrient is None:
            self._nutrient = self._supplied(
                (1.0, p.nutrient_half_uptake_mmol_per_l), p.vessel_nutrient_mmol_per_l
            )
        uptake = p.nutrient_uptake_mmol_per_l_s / p.nutrient_diffusion_um2_per_s
        return self._solve(self._nutrient, uptake, p.vessel_nutrient_mmol_per_l)

    def drug(self) -> Array:
        """Drug over its concentration in the vessels, padded."""
        p = self.parameters
        if self._drug is None:
            self._drug = self._supplied((0.0, 1.0), 1.0)
        return self._solve(self._drug, p.drug_uptake_per_s / p.drug_diffusion_um2_per_s, 1.0)

    def chemokine(self) -> Array:
        """Chemokine over its level deep inside living tumour, padded."""
        p = self.parameters
        decay = (p.cell_spacing_um / p.chemokine_range_um) ** 2
        if self._chemokine is None:
            self._chemokine = Multigrid(self.states.shape, (0.0, 1.0))
            self._chemokine.uptake[...] = decay
        living = np.zeros(_rules.WALL + 1, np.float32)
        living[[_rules.PROLIFERATING, _rules.QUIESCENT]] = decay
        _rules.uptake_of(self.cells.ravel(), living, self._chemokine.source.ravel())
        self._chemokine.solve(p.field_tolerance)
        return self._chemokine.solution

    def step(self, length_days: float, drug_log_kill: float) -> None:
        """Advance by ``length_days``, in which a cell beside a vessel suffers ``drug_log_kill``."""
        p = self.parameters
        oxygen = self.oxygen().ravel()
        feeds = p.nutrient_uptake_mmol_per_l_s > 0.0
        nutrient = self.nutrient().ravel() if feeds else oxygen
        drug = self.drug().ravel() if drug_log_kill > 0.0 else oxygen
        hypoxia = (p.hypoxia_oxygen_mmhg, p.hypoxia_nutrient_mmol_per_l if feeds else -1.0)
        necrosis = (p.necrosis_oxygen_mmhg, p.necrosis_nutrient_mmol_per_l if feeds else -1.0)
        kills = (p.apoptosis_per_day * length_days, drug_log_kill, p.necrosis_per_day * length_days)
        chances = (
            -math.expm1(-p.necrotic_clearance_per_day * length_days),
            math.expm1(p.division_per_day * length_days),
            p.migration_per_day * length_days,
        )
        well_mixed = p.placement == "well_mixed"
        crowding = self._offsets[:0] if well_mixed else self._offsets
        old, new = self.cells.ravel(), self._next.ravel()
        new[:] = old
        rates = (kills, chances, hypoxia, necrosis)
        numbers = _rules.decide(
            old, new, (oxygen, nutrient, drug), rates, crowding, self._key(0), self._lists, self.ledger
        )
        self.cells, self._next = self._next, self.cells
        dividing, moving, immune = (each[:n] for each, n in zip(self._lists, numbers, strict=True))
        placement = PLACEMENTS.index(p.placement)
        _rules.divide(new, dividing, self._offsets, placement, self._key(1), self.ledger)
        _rules.migrate(new, moving, self._offsets, self._key(2))
        self._immune(immune, length_days)
        self._steps += 1

    def irradiate(self, dose_gy: float) -> None:
        """Give one fraction, acute, at the oxygen of this moment."""
        p = self.parameters
        lq = (p.alpha_per_gy, p.alpha_per_gy / p.alpha_beta_gy)
        oer = (p.oer_maximum, p.oer_half_mmhg)
        oxygen = self.oxygen().ravel()
        _rules.irradiate(self.cells.ravel(), oxygen, float(dose_gy), lq, oer, self._key(4), self.ledger)
        self._steps += 1

    def _immune(self, sites: Array, length_days: float) -> None:
        p = self.parameters
        cells = self.cells.ravel()
        if sites.size:
            chemokine = self.chemokine().ravel()
            rates = (
                -math.expm1(-p.immune_death_per_day * length_days),
                -math.expm1(-p.immune_kill_per_day * length_days),
                p.immune_moves_per_day * length_days,
                p.chemotaxis_share,
            )
            _rules.act_immune(cells, sites, self._offsets, chemokine, rates, self._key(3), self.ledger)
        entry = -math.expm1(-p.immune_entry_per_vessel_per_day * length_days)
        if entry > 0.0:
            _rules.enter_immune(cells, self._vessels, self._offsets, entry, self._key(5), self.ledger)

    def _key(self, purpose: int) -> np.uint64:
        return np.uint64(_rules._hash(self._seed, self._steps * _PURPOSES + purpose))

    def _supplied(self, law: tuple[float, float], value: float) -> Multigrid:
        """A field that starts at its vessel value everywhere."""
        field = Multigrid(self.states.shape, law)
        field.solution[...] = value
        return field

    def _solve(self, field: Multigrid, uptake: float, vessel_value: float) -> Array:
        """Balance ``field`` with the cells; ``uptake`` is the rate over the diffusion constant, per um2."""
        if uptake > 0.0:
            p = self.parameters
            scaled = uptake * p.cell_spacing_um**2
            rates = np.zeros(_rules.WALL + 1, np.float32)
            rates[_rules.PROLIFERATING] = scaled
            rates[_rules.QUIESCENT] = scaled * p.quiescent_uptake_share
            rates[_rules.VESSEL] = SUPPLIED
            _rules.uptake_of(self.cells.ravel(), rates, field.uptake.ravel())
            field.solve(p.field_tolerance * vessel_value)
        return field.solution
