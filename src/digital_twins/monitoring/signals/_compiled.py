"""How the monitor compiles its inner loops (numba, one thread, the GIL released)."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


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


def cached_by(function: Callable[..., Any], *modules: ModuleType) -> Callable[..., Any]:
    """Name a function after the text of the modules whose functions are compiled into it.

    Numba looks for edits in the function's own file only, and its cache is found by the qualified name: so
    machine code of an older text of those modules is never taken for this one's.
    """
    function.__qualname__ = f"{function.__qualname__}_{_digest(*(str(each.__file__) for each in modules))}"
    return function


@cache
def _digest(*files: str) -> str:
    return hashlib.sha256(b"\0".join(Path(each).read_bytes() for each in files)).hexdigest()[:12]


def columns(rows: Any, *tables: Any) -> tuple[Any, ...]:
    """Return rows as places and tables as float64, each in one piece, as compiled loops want them."""
    return (
        np.ascontiguousarray(rows, dtype=np.intp),
        *(np.ascontiguousarray(each, dtype=np.float64) for each in tables),
    )
