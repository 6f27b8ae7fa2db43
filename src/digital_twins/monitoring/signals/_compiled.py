"""How the monitor compiles its inner loops (numba, one thread, the GIL released)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use; keep the machine code on disk where any cache folder can be written.

    Sums keep their order and products are not fused: the results are those of numpy.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable cache folder: compile anew in each process
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]


def columns(rows: Any, *tables: Any) -> tuple[Any, ...]:
    """Return rows as places and tables as float64, each in one piece, as compiled loops want them."""
    return (
        np.ascontiguousarray(rows, dtype=np.intp),
        *(np.ascontiguousarray(each, dtype=np.float64) for each in tables),
    )
