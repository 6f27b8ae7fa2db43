"""The scheme of ``_march`` in JAX, for accelerators; jax is imported on first use and nowhere else."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digital_twins.models._diffusion import plan_diffusion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from digital_twins.models._diffusion import Diffusion
    from digital_twins.models._domain import Domain, Geometry
    from digital_twins.models._march import Aim
    from digital_twins.models._schedule import Schedule, Stop

Array = NDArray[Any]
_CHUNK = 64
_INSTALL = "pip install 'digital-twins[gpu]'"


def accelerator_missing() -> str | None:
    """Why the JAX solver cannot run on an accelerator, in a sentence; None when it can."""
    try:
        jax = importlib.import_module("jax")
    except ImportError:
        return f"jax is not installed ({_INSTALL})"
    try:
        platforms = {device.platform for device in jax.devices()}
    except RuntimeError:  # jax finds a broken driver
        return "jax cannot reach its devices"
    return "jax finds no GPU" if platforms <= {"cpu"} else None


def jax_states(
    field: Array,
    domain: Domain,
    course: tuple[Sequence[Stop], Sequence[Schedule]],
    *,
    rates: tuple[float, float],
    days: tuple[float, float],
    aim: Aim,
) -> Iterator[tuple[float, Array]]:
    """Yield (day, padded density) at each output, solved on jax's default device.

    The steps, reactions and diffusions are those of the numba solver, on the whole domain.

    Parameters
    ----------
    field
        Padded initial density; its type of number is that of the calculation.
    course
        Stops and the schedule that leads to each.
    rates
        Diffusion coefficient in mm2/day and proliferation rate in 1/day.
    days
        First and last day.
    aim
        Tolerance and what follows from it.
    """
    jax = importlib.import_module("jax")
    dtype = field.dtype

    def doubles() -> Any:
        """Allow double precision for a moment: jax's switch belongs to the thread, not to us."""
        return jax.enable_x64(dtype == np.float64)

    with doubles():
        arrays = _device_arrays(domain.geometry(dtype), dtype)
        state, day = jax.device_put(field), days[0]
    for stop, schedule in zip(*course, strict=True):
        with doubles():
            if schedule.step_days > 0.0:
                plan = plan_diffusion(
                    rates[0] * schedule.step_days,
                    domain.largest_conductance_per_mm2,
                    accuracy=aim.polynomial_accuracy(rates[1], days[1] - day, dtype),
                    refine=aim.refine,
                )
                state = _stretch(state, arrays, schedule, plan)
            if stop.survival is not None:
                state = state * stop.survival.astype(dtype)
        day = stop.day
        if stop.survival is None:
            yield day, np.array(state)


def _stretch(state: Any, arrays: Any, schedule: Schedule, plan: Diffusion) -> Any:
    """First reaction and all steps of a stretch; arrays are filled up so that few sizes are compiled."""
    kind, count = state.dtype.type, schedule.gain.size
    state = kind(schedule.first[0]) * state / (1 + kind(schedule.first[1]) * state)
    columns = (_filled(c.astype(state.dtype)) for c in (schedule.gain, schedule.saturation))
    reactions = (*columns, count)
    if plan.stabilised:
        coefficients = _filled(plan.coefficients.astype(state.dtype))
        numbers = coefficients, kind(plan.reach), plan.coefficients.size
        return _compiled()["polynomial"](state, arrays, numbers, reactions)
    return _compiled()["explicit"](state, arrays, (kind(plan.scale), plan.repeats), reactions)


def _filled(numbers: Array) -> Array:
    return np.pad(numbers, (0, -numbers.size % _CHUNK))


def _device_arrays(geometry: Geometry, dtype: np.dtype[Any]) -> Any:
    """Faces [axis, slice, row, column], or the edges of a graph: ends and weights."""
    jax = importlib.import_module("jax")
    if geometry.graph is None:
        return {"faces": jax.device_put(geometry.faces.reshape(3, *geometry.shape))}
    voxels, start, neighbour, weight = geometry.graph
    here = np.repeat(voxels, np.diff(start))
    edges = {"here": here, "there": neighbour, "weight": weight.astype(dtype)}
    return {name: jax.device_put(array) for name, array in edges.items()}


@lru_cache(maxsize=1)
def _compiled() -> dict[str, Any]:
    """The two ways to advance, compiled by jax for each size on first use."""
    jax = importlib.import_module("jax")
    return {"explicit": jax.jit(_explicit), "polynomial": jax.jit(_polynomial)}


def _operator(u: Any, arrays: Any) -> Any:
    """The finite-volume operator ``L u``."""
    jnp = importlib.import_module("jax.numpy")
    if "faces" in arrays:
        total = jnp.zeros_like(u)
        for axis in range(3):
            flow = arrays["faces"][axis] * (jnp.roll(u, -1, axis) - u)
            total = total + flow - jnp.roll(flow, 1, axis)
        return total
    flat = u.reshape(-1)
    flow = arrays["weight"] * (flat[arrays["there"]] - flat[arrays["here"]])
    return jnp.zeros_like(flat).at[arrays["here"]].add(flow).reshape(u.shape)


def _steps(diffuse: Any, u: Any, reactions: Any) -> Any:
    lax = importlib.import_module("jax.lax")
    gain, saturation, count = reactions

    def step(index: Any, v: Any) -> Any:
        v = diffuse(v)
        return gain[index] * v / (1 + saturation[index] * v)

    return lax.fori_loop(0, count, step, u)


def _explicit(u: Any, arrays: Any, numbers: Any, reactions: Any) -> Any:
    lax = importlib.import_module("jax.lax")
    scale, repeats = numbers

    def once(_: Any, v: Any) -> Any:
        first = v + scale * _operator(v, arrays)
        return (v + first + scale * _operator(first, arrays)) / 2

    return _steps(lambda v: lax.fori_loop(0, repeats, once, v), u, reactions)


def _polynomial(u: Any, arrays: Any, numbers: Any, reactions: Any) -> Any:
    lax = importlib.import_module("jax.lax")
    jnp = importlib.import_module("jax.numpy")
    coefficients, reach, size = numbers

    def diffuse(v: Any) -> Any:
        def clenshaw(index: Any, pair: Any) -> Any:
            ahead, behind = pair
            moved = ahead + reach * _operator(ahead, arrays)
            return coefficients[size - 1 - index] * v + 2 * moved - behind, ahead

        ahead, behind = lax.fori_loop(0, size - 1, clenshaw, (jnp.zeros_like(v), jnp.zeros_like(v)))
        moved = ahead + reach * _operator(ahead, arrays)
        return jnp.maximum(coefficients[0] * v + moved - behind, 0)

    return _steps(diffuse, u, reactions)
