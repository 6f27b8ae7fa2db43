"""Agent-based tumour: single cells on a lattice, fed, starved, treated and hunted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models import _agents_kernels as _rules
from digital_twins.models._agents_parameters import AgentParameters
from digital_twins.models._agents_tissue import Tissue
from digital_twins.models._forcing import Forcing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

Array = NDArray[Any]
_MOST_SITES = 2**30


class AgentState(IntEnum):
    """What a lattice site holds; the number in every array of states."""

    EMPTY = _rules.EMPTY
    PROLIFERATING = _rules.PROLIFERATING
    QUIESCENT = _rules.QUIESCENT
    NECROTIC = _rules.NECROTIC
    IMMUNE = _rules.IMMUNE
    VESSEL = _rules.VESSEL


@dataclass(frozen=True, slots=True, eq=False)
class AgentSnapshot:
    """The tissue on one day.

    Attributes
    ----------
    day
        Day since the start.
    states
        :class:`AgentState` of every site [slice, row, column].
    oxygen_mmhg
        Oxygen of every site.
    """

    day: float
    states: NDArray[np.uint8]
    oxygen_mmhg: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AgentTrajectory:
    """Counts over time.

    Attributes
    ----------
    days
        Output days.
    counts
        Number of sites [day, state] in the order of :class:`AgentState`.
    events
        What happened from the start to each output day, by name: divisions, apoptosis, drug_kills,
        starvation, radiation_kills, immune_kills, cleared, immune_entries, immune_deaths. Counts and events
        balance exactly.
    snapshots
        The tissue on each snapshot day.
    seed
        What repeats this run to the last bit, on the same machine and version.
    """

    days: NDArray[np.float64]
    counts: NDArray[np.int64]
    events: dict[str, NDArray[np.int64]]
    snapshots: tuple[AgentSnapshot, ...]
    seed: int

    def count(self, state: AgentState) -> NDArray[np.int64]:
        """Return the number of sites in ``state`` on each day."""
        return self.counts[:, int(state)]

    @property
    def living(self) -> NDArray[np.int64]:
        """Living tumour cells (proliferating and quiescent) on each day."""
        return self.count(AgentState.PROLIFERATING) + self.count(AgentState.QUIESCENT)


@dataclass(frozen=True, slots=True, eq=False)
class AgentBasedModel:
    """Tumour and immune cells on a 2-D or 3-D lattice, coupled to oxygen, nutrient, drug and chemokine.

    Each step the fields are brought into balance with the cells (diffusion is far faster than cells divide);
    then every cell dies, starves, sleeps, divides, moves or kills by chance. A crowded cell (no free face
    neighbour) and a hypoxic one are quiescent. Divisions and moves happen in random order. One cell fills one
    site; there are no forces, no clones and no cell cycle phases.

    Parameters
    ----------
    shape
        Sites [slice, row, column]; one slice is a 2-D tissue.
    parameters
        Rates and constants.
    vessels
        True where a site is a vessel or medium, whose concentrations are given; no cell enters it. By
        default the outermost sites of every axis longer than one (a spheroid in medium). Walls pass nothing.

    Raises
    ------
    InputError
        When the lattice is empty or too large, the vessels have another shape, or nothing supplies it.
    """

    shape: tuple[int, int, int]
    parameters: AgentParameters = field(default_factory=AgentParameters)
    vessels: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1 or not 1 < math.prod(self.shape) <= _MOST_SITES:
            raise InputError(
                "The lattice cannot be built.",
                f"Its shape is {self.shape}.",
                f"Give (slices, rows, columns), 2 to {_MOST_SITES} sites; one slice for a 2-D tissue.",
            )
        given = self.vessels if self.vessels is not None else _faces(self.shape)
        vessels = np.array(given, dtype=bool)
        if vessels.shape != self.shape:
            raise InputError(
                "The vessels do not fit the lattice.",
                f"Their shape is {vessels.shape}, the lattice's {self.shape}.",
                "Give one truth value a site.",
            )
        p = self.parameters
        fed = p.oxygen_uptake_mmhg_per_s + p.nutrient_uptake_mmol_per_l_s + p.immune_entry_per_vessel_per_day
        if fed > 0.0 and not vessels.any():
            raise InputError(
                "Nothing supplies the tissue.",
                "Cells take up oxygen or nutrient, or immune cells are to enter, but there is no vessel.",
                "Mark vessels, or set the uptakes and the immune entry to 0.",
            )
        vessels.setflags(write=False)
        object.__setattr__(self, "vessels", vessels)

    def ball(self, radius_um: float) -> NDArray[np.uint8]:
        """Return a start: proliferating cells within ``radius_um`` of the middle, vessels left out."""
        axes = [(np.arange(n) - (n - 1) / 2.0) * self.parameters.cell_spacing_um for n in self.shape]
        square = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
        inside = (square <= radius_um**2) & ~self._vessel_sites
        return np.where(inside, AgentState.PROLIFERATING, AgentState.EMPTY).astype(np.uint8)

    def fields(self, states: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Solve the fields around given cells.

        Parameters
        ----------
        states
            :class:`AgentState` of every site.

        Returns
        -------
        dict
            ``oxygen_mmhg``, ``nutrient_mmol_per_l``, ``drug_share`` (of the vessel's concentration) and
            ``chemokine_share`` (of the level deep inside a tumour), each of the lattice's shape.

        Raises
        ------
        InputError
            When the states do not fit the lattice.
        """
        tissue = Tissue(self.parameters, self._start(states), 0)
        padded = (tissue.oxygen(), tissue.nutrient(), tissue.drug(), tissue.chemokine())
        names = ("oxygen_mmhg", "nutrient_mmol_per_l", "drug_share", "chemokine_share")
        return {name: each[1:-1, 1:-1, 1:-1].copy() for name, each in zip(names, padded, strict=True)}

    def run(
        self,
        days: ArrayLike,
        *,
        start: ArrayLike,
        seed: int = 0,
        fractions: Sequence[tuple[float, float]] = (),
        drug: Forcing | None = None,
        snapshot_days: Sequence[float] = (),
    ) -> AgentTrajectory:
        """Simulate from day 0.

        Parameters
        ----------
        days
            Rising output days from 0 on.
        start
            :class:`AgentState` of every site on day 0, e.g. from :meth:`ball`.
        seed
            Not negative; the same seed gives the same run bit by bit.
        fractions
            (day, dose in Gy) of each radiation fraction; on that day the counts are those before it.
        drug
            Kill rate of a cell beside a vessel; deeper cells suffer the share of the drug that reaches them.
            Its jumps must be empty.
        snapshot_days
            Those of ``days`` on which the whole tissue is kept.

        Returns
        -------
        AgentTrajectory
            Counts, events and snapshots.

        Raises
        ------
        InputError
            When days fall, a dose or the seed is negative, the drug has jumps, or the start does not fit.
        """
        outputs, doses, kills = _course(days, fractions, drug)
        keep = {float(day) for day in snapshot_days}
        if not keep <= set(outputs):
            raise InputError(
                "A snapshot day is not an output day.",
                f"{sorted(keep - set(outputs))[:3]} are not among the days.",
                "Add them to days.",
            )
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise InputError("The seed cannot be used.", f"It is {seed!r}.", "Give a whole number from 0 on.")
        tissue = Tissue(self.parameters, self._start(start), int(seed))
        counts, events, snapshots, now = [], [], [], 0.0
        for stop in sorted({*outputs, *(day for day, _ in doses if day < outputs[-1])}):
            self._advance(tissue, now, stop, kills)
            now = stop
            if stop in outputs:
                counts.append(tissue.counts())
                events.append(tissue.ledger.copy())
            if stop in keep:
                oxygen = tissue.oxygen()[1:-1, 1:-1, 1:-1].copy()
                snapshots.append(AgentSnapshot(stop, tissue.states, oxygen))
            for day, dose in doses:
                if day == stop:
                    tissue.irradiate(dose)
        ledger = dict(zip(_rules.EVENTS, np.array(events).T, strict=True))
        return AgentTrajectory(np.array(outputs), np.array(counts), ledger, tuple(snapshots), int(seed))

    def _advance(self, tissue: Tissue, now: float, stop: float, kills: Forcing) -> None:
        """Equal steps of at most ``step_days`` from ``now`` to ``stop``."""
        steps = math.ceil((stop - now) / self.parameters.step_days - 1e-9)
        if steps < 1:
            return
        edges = np.linspace(now, stop, steps + 1)
        log_kill = np.diff(kills.cumulative_log_kill(edges))
        for length, kill in zip(np.diff(edges), log_kill, strict=True):
            tissue.step(float(length), max(float(kill), 0.0))

    @property
    def _vessel_sites(self) -> NDArray[np.bool_]:
        return np.asarray(self.vessels, dtype=bool)

    def _start(self, states: ArrayLike) -> NDArray[np.uint8]:
        given = np.asarray(states)
        vessels = self._vessel_sites
        if given.shape != self.shape or not np.isin(given, list(AgentState)).all():
            raise InputError(
                "The start cannot be used.",
                f"It must hold an AgentState for each of the {self.shape} sites; its shape is {given.shape}.",
                "Begin with AgentBasedModel.ball or an array of zeros.",
            )
        if np.any(vessels & (given != AgentState.EMPTY) & (given != AgentState.VESSEL)) or np.any(
            ~vessels & (given == AgentState.VESSEL)
        ):
            raise InputError(
                "Start and vessels contradict each other.",
                "A cell stands on a vessel, or the start has a vessel that the model does not know.",
                "Leave vessel sites empty; give vessels to the model.",
            )
        return np.where(vessels, np.uint8(AgentState.VESSEL), given.astype(np.uint8))


def _faces(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """True on the outermost sites of every axis longer than one."""
    inner = tuple(slice(1, -1) if n > 1 else slice(None) for n in shape)
    faces = np.ones(shape, dtype=bool)
    faces[inner] = False
    return faces


def _course(
    days: ArrayLike, fractions: Sequence[tuple[float, float]], drug: Forcing | None
) -> tuple[list[float], list[tuple[float, float]], Forcing]:
    """Check what a run is to do; return output days, fractions and the drug."""
    outputs = np.asarray(days, dtype=np.float64)
    falling = outputs.ndim != 1 or outputs.size == 0 or np.any(np.diff(outputs) <= 0.0)
    if falling or not np.all(np.isfinite(outputs)) or outputs[0] < 0.0:
        raise InputError(
            "The output days cannot be used.",
            "They must be a list of finite days that rises from 0 or later.",
            "Sort the days and drop repeats, e.g. range(0, 15).",
        )
    doses = [(float(day), float(dose)) for day, dose in fractions]
    if any(
        not (math.isfinite(day) and math.isfinite(dose) and day >= 0 and dose >= 0) for day, dose in doses
    ):
        raise InputError(
            "A radiation fraction cannot be used.",
            "Its day or its dose is negative or not a number.",
            "Give (day, dose in Gy), both finite and not negative.",
        )
    kills = drug if drug is not None else Forcing()
    if kills.jump_days.size:
        raise InputError(
            "The drug's forcing has jumps.",
            "Jumps know no oxygen, while cells on a lattice respond to radiation by theirs.",
            "Give radiation as fractions with their dose, and the drug as kill terms only.",
        )
    return outputs.tolist(), doses, kills
