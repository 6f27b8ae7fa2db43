"""How the science rooms compile their inner loops with numba: one thread, the GIL released, kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def jit(function: Callable[..., Any], *, fastmath: Collection[str] = ()) -> Callable[..., Any]:
    """Compile a function on its first use; keep the machine code where a cache folder can be written.

    Parameters
    ----------
    fastmath
        LLVM's fast-math flags. Without ``"reassoc"`` sums keep their order; without ``"nnan"`` and
        ``"ninf"`` a NaN stays visible.
    """
    import numba

    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no writable cache folder: compile anew in each process
        compiled = numba.njit(**options)(function)
    return compiled  # type: ignore[no-any-return]
