"""How a diffusion over a time step is carried out: plain explicit steps, or one stabilised polynomial."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from digital_twins.models._domain import Geometry

Array = NDArray[Any]

# What a stage of the polynomial costs, in explicit stages (measured: docs/science/tumour-engine.md).
_STAGE_COST = 1.2
_FEWEST_STEPS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Diffusion:
    """Numbers of one diffusion ``exp(A)``, ``A = length L`` with ``length = D x days`` in mm2.

    Attributes
    ----------
    scale, repeats
        Explicit: ``repeats`` two-stage steps of this length in mm2 each.
    coefficients
        Stabilised, where not empty: ``exp(A) = sum_j c_j T_j(B)`` with ``B = I + reach L``.
    reach
        One over the largest sum of a voxel's conductances, in mm2.
    """

    length: float
    scale: float
    repeats: int
    coefficients: NDArray[np.float64]
    reach: float

    @property
    def stabilised(self) -> bool:
        """Whether the polynomial is taken."""
        return self.coefficients.size > 0

    def single(self) -> Diffusion:
        """Return one of the explicit steps, or the polynomial."""
        return replace(self, repeats=1)


def plan_diffusion(length: float, largest: float, *, accuracy: float = 0.0, refine: int = 1) -> Diffusion:
    """Choose the cheaper way to diffuse ``length`` mm2; a voxel's conductances sum to ``largest`` at most.

    With ``S = length largest`` the operator A has its spectrum in [-2 S, 0], so that ``B = I + A / S`` lies
    in [-1, 1] and ``exp(A) = exp(-S) (I_0(S) + 2 sum_j I_j(S) T_j(B))``, I_j the modified Bessel functions
    (Tal-Ezer, SIAM J Numer Anal 1989;26:1, doi:10.1137/0726001). All coefficients are positive with the
    sum 1; about ``sqrt(2 S ln(1/accuracy))`` of them leave out less than ``accuracy``, where explicit steps
    within the limit of positivity take 2 S stages. The kept ones are scaled to the sum 1, so that mass is
    conserved to rounding.

    Parameters
    ----------
    accuracy
        Largest error relative to the field's norm that the polynomial may make; 0 allows explicit steps only.
    refine
        Factor on the number of explicit steps.
    """
    stiffness = length * largest
    repeats = steps_within_limit(refine * stiffness)
    explicit = Diffusion(length, length / repeats, repeats, np.zeros(0), 1.0 / largest if largest else 0.0)
    if accuracy <= 0.0 or repeats < _FEWEST_STEPS:
        return explicit
    coefficients = _coefficients(stiffness, accuracy)
    if _STAGE_COST * coefficients.size >= 2 * repeats:
        return explicit
    return Diffusion(length, length, 1, coefficients, 1.0 / largest)


def _coefficients(stiffness: float, accuracy: float) -> NDArray[np.float64]:
    from scipy.special import ive

    most = math.ceil(1.5 * math.sqrt(2.0 * stiffness * math.log(2.0 / accuracy)) + 20.0)
    series = 2.0 * ive(np.arange(most + 1), stiffness)
    series[0] *= 0.5
    left_out = np.cumsum(series[::-1])[::-1]
    kept = series[: max(3, int(np.count_nonzero(left_out > 0.5 * accuracy)))]
    return np.asarray(kept / kept.sum())


def steps_within_limit(stiffness: float) -> int:
    """Return how many explicit steps a diffusion takes: ``stiffness`` is D x days x largest conductance.

    0.95 keeps the explicit stages convex combinations in floating point too.
    """
    return max(1, math.ceil(stiffness / 0.95))


def work_for(geometry: Geometry, dtype: np.dtype[Any]) -> Array:
    """Scratch for explicit steps over faces."""
    return np.zeros((4, geometry.shape[1] * geometry.shape[2]), dtype=dtype)


def diffuse(
    flat: Array,
    scratch: Array,
    geometry: Geometry,
    *,
    diffusion: Diffusion,
    gain: Array,
    saturation: Array,
) -> None:
    """Advance a padded field [slice, pixel] in place: per entry of ``gain`` one diffusion, then one reaction.

    Explicit steps keep the field positive; the polynomial sets to zero what falls below it (by less than its
    accuracy).
    """
    dtype = flat.dtype
    gain, saturation = gain.astype(dtype), saturation.astype(dtype)
    if diffusion.stabilised:
        from digital_twins.models._chebyshev_kernels import clip_and_react

        work = np.zeros((3, *flat.shape), dtype=dtype)
        for a, b in zip(gain, saturation, strict=True):
            apply_polynomial(flat, work, geometry, diffusion)
            clip_and_react(flat, a, b)
        return
    steps = (
        np.full(gain.size, diffusion.scale, dtype=dtype),
        np.full(gain.size, diffusion.repeats, dtype=np.int64),
        gain,
        saturation,
    )
    if geometry.graph is None:
        from digital_twins.models._kernels import diffuse_and_react

        diffuse_and_react(flat, scratch, geometry.arrays, *steps)
    else:
        from digital_twins.models._graph_kernels import diffuse_graph

        stages = np.zeros((2, flat.size), dtype=dtype)
        diffuse_graph(flat.reshape(-1), stages, geometry.graph, *steps)


def apply_polynomial(flat: Array, work: Array, geometry: Geometry, diffusion: Diffusion) -> None:
    """Apply the stabilised polynomial, which is linear and symmetric, to a contiguous field in place.

    ``work`` are three fields, zero outside the domain.
    """
    from digital_twins.models._chebyshev_kernels import chebyshev, chebyshev_graph

    dtype = flat.dtype
    numbers = diffusion.coefficients.astype(dtype), dtype.type(diffusion.reach)
    if geometry.graph is None:
        chebyshev(flat, work[:2], geometry.arrays, *numbers)
    else:
        chebyshev_graph(flat.reshape(-1), work.reshape(3, -1), geometry.graph, *numbers)


def stage(out: Array, flat: Array, geometry: Geometry, h: float) -> None:
    """Set ``out = u + h L u`` of a contiguous field."""
    kind = flat.dtype.type
    if geometry.graph is None:
        from digital_twins.models._chebyshev_kernels import face_stage

        face_stage(out, flat, geometry.arrays, kind(h))
    else:
        from digital_twins.models._graph_kernels import graph_stage

        graph_stage(out.reshape(-1), flat.reshape(-1), geometry.graph, kind(h))
