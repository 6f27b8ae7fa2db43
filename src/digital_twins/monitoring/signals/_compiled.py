"""How the monitor compiles its inner loops (numba, one thread, the GIL released)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba

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
