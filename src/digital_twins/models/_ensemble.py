"""Many solutions on one domain, reduced as they come: volumes, share above a level, mean density."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.models._clearance import TumourState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike

    from digital_twins.models._domain import Domain
    from digital_twins.models._forcing import Forcing
    from digital_twins.models._reaction_diffusion import ReactionDiffusionModel
    from digital_twins.models._spatial_laws import SpatialGrowthModel

    States = Callable[[], Iterator[tuple[float, NDArray[Any]]] | Iterator[TumourState]]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleMember:
    """One solution of an ensemble.

    Attributes
    ----------
    model, forcing
        Parameters and treatments.
    density
        Initial density, or a function that makes it when its turn comes.
    """

    model: ReactionDiffusionModel | SpatialGrowthModel
    density: ArrayLike | Callable[[], ArrayLike]
    forcing: Forcing | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EnsembleSummary:
    """What remains of an ensemble.

    Attributes
    ----------
    days
        Output days.
    volume_mm3
        [member, day]: volume above the level.
    share_above
        [day, slice, row, column]: share of the members with a density at or above the level, 0..1.
    mean_density
        [day, slice, row, column]: mean over the members, in their unit.
    """

    days: FloatArray
    volume_mm3: FloatArray
    share_above: NDArray[np.float32]
    mean_density: NDArray[np.float32]


def ensemble_trajectories(
    members: Sequence[EnsembleMember],
    domain: Domain,
    output_days: Sequence[float] | FloatArray,
    *,
    level: float,
    tolerance: float = 1.0e-4,
    threads: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> EnsembleSummary:
    """Solve all members from day 0 on and reduce them on the way: no field but the running ones is held.

    Members run side by side in threads (the compiled loops release the interpreter's lock); each one solves
    in single precision in its own active region of the shared geometry. Sums are formed in the members'
    order, so that the result does not depend on the number of threads.

    Parameters
    ----------
    members, domain, output_days, tolerance
        What to solve, as for :meth:`ReactionDiffusionModel.trajectory`.
    level
        Density, in the members' unit, above which tissue counts as tumour.
    threads
        How many members run at a time; as many as the process has cores by default.
    progress
        Called with the share done and a line of text; what it raises stops the ensemble.

    Raises
    ------
    InputError
        When there is no member, or what a member holds cannot be solved.
    """
    days = np.asarray(output_days, dtype=np.float64)

    def states(member: EnsembleMember) -> States:
        def run() -> Iterator[tuple[float, NDArray[Any]]]:
            density = member.density() if callable(member.density) else member.density
            return member.model.trajectory(density, domain, days, forcing=member.forcing, tolerance=tolerance)

        return run

    return summarise_ensemble(
        [states(member) for member in members], domain, days, level=level, threads=threads, progress=progress
    )


def summarise_ensemble(
    trajectories: Sequence[States],
    domain: Domain,
    output_days: FloatArray,
    *,
    level: float,
    threads: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> EnsembleSummary:
    """Reduce trajectories of any kind, each a function that starts one, as :func:`ensemble_trajectories`.

    A trajectory yields ``(day, padded density)``, or a :class:`TumourState`: then volume and share are those
    of what is visible, dead cells included, and the mean density that of the living.

    Raises
    ------
    InputError
        When there is no trajectory.
    """
    if not trajectories or len(trajectories) > np.iinfo(np.uint16).max:
        raise InputError(
            "The ensemble has no members, or too many.",
            f"It has {len(trajectories)}; statistics need at least one, and counts end at 65,535.",
            "Give one set of parameters a member.",
        )
    sums = _Sums(len(trajectories), domain, output_days, level)
    workers = min(len(trajectories), threads or _cores())
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = [pool.submit(sums.run, i, states) for i, states in enumerate(trajectories)]
        try:
            for done, future in enumerate(running, start=1):
                future.result()
                if progress is not None:
                    progress(done / len(running), f"member {done} of {len(running)}")
        except BaseException:
            sums.stop()
            raise
    return sums.summary()


def _cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


class _Sums:
    """Sums of an ensemble, added to by its members in their order on each day."""

    def __init__(self, members: int, domain: Domain, days: FloatArray, level: float) -> None:
        self._days, self._level, self._voxel = days, level, domain.voxel_volume_mm3
        self._above = np.zeros((days.size, *domain.shape), dtype=np.uint16)
        self._total = np.zeros((days.size, *domain.shape), dtype=np.float32)
        self._volumes = np.zeros((members, days.size))
        self._next = np.zeros(days.size, dtype=np.int64)
        self._turn = threading.Condition()
        self._stopped = False

    def run(self, member: int, states: States) -> None:
        """Solve one member and add it up."""
        from digital_twins.models._level_kernels import add_member

        try:
            given: Iterator[Any] = states()
            for day, yielded in enumerate(given):
                state = yielded if isinstance(yielded, TumourState) else TumourState(yielded[0], yielded[1])
                volume = state.visible_volume_mm3(self._level, voxel_volume_mm3=self._voxel)
                self._volumes[member, day] = volume
                shown = None if state.most is None else state.visible_mask(self._level)
                if not self._wait(member, day):
                    return
                if shown is None:
                    add_member(self._above[day], self._total[day], state.living, self._level)
                else:
                    self._above[day] += shown
                    self._total[day] += state.living[1:-1, 1:-1, 1:-1]
                with self._turn:
                    self._next[day] += 1
                    self._turn.notify_all()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let no member go on."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()

    def _wait(self, member: int, day: int) -> bool:
        """Wait until the member before has been added on this day; False when the ensemble was stopped."""
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or self._next[day] == member)
            return not self._stopped

    def summary(self) -> EnsembleSummary:
        """Divide by the number of members."""
        count = np.float32(len(self._volumes))
        share = np.asarray(self._above / count, dtype=np.float32)
        return EnsembleSummary(self._days, self._volumes, share, self._total / count)
