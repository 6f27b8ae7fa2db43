"""Agent-based tumour: CPU time of a step of a million cells, and of its parts.

Two tissues: a sphere in medium, which starves inside, and a tissue fed by a grid of vessels, which lives. No
peer is measured: the known ones are C++ programs and move cells off a lattice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from digital_twins.models import AgentBasedModel, AgentState
from digital_twins.models._agents_tissue import Tissue

Figure = tuple[str, float, str, float | None]
STEP_DAYS = 1.0 / 24.0


def figures() -> Iterator[Figure]:
    small = AgentBasedModel((16, 16, 16))
    _tissue(small, small.ball(100.0)).step(STEP_DAYS, 0.1)
    sphere = AgentBasedModel((128, 128, 128))
    yield from _steps("sphere", _tissue(sphere, sphere.ball(1242.0)))
    vessels = np.zeros((104, 104, 104), dtype=bool)
    vessels[:, ::6, ::6] = True
    perfused = AgentBasedModel(vessels.shape, vessels=vessels)
    filled = np.random.default_rng(0).random(vessels.shape) < 0.93
    start = np.where(filled & ~vessels, AgentState.PROLIFERATING, AgentState.EMPTY)
    tissue = _tissue(perfused, start)
    yield from _steps("perfused", tissue)
    yield "fields", _cpu(lambda: (tissue.oxygen(), tissue.nutrient())), "cpu_s", None
    yield "radiation_fraction", _cpu(lambda: tissue.irradiate(2.0)), "cpu_s", None


def _tissue(model: AgentBasedModel, start: np.ndarray) -> Tissue:
    return Tissue(model.parameters, model._start(start), 0)


def _cpu(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _steps(name: str, tissue: Tissue) -> Iterator[Figure]:
    """First step (fields from scratch), median of the next, and with a drug; per million cells."""
    million = float(tissue.counts()[1:5].sum()) / 1e6
    yield f"{name}.cells", million, "million", None
    yield f"{name}.first_step", _cpu(lambda: tissue.step(STEP_DAYS, 0.0)) / million, "cpu_s_per_million", None
    later = [_cpu(lambda: tissue.step(STEP_DAYS, 0.0)) for _ in range(9)]
    yield f"{name}.step", float(np.median(later)) / million, "cpu_s_per_million", None
    treated = [_cpu(lambda: tissue.step(STEP_DAYS, 0.01)) for _ in range(5)]
    yield f"{name}.step_with_drug", float(np.median(treated)) / million, "cpu_s_per_million", None
    yield f"{name}.living", float(tissue.counts()[1:3].sum()) / 1e6, "million", None
