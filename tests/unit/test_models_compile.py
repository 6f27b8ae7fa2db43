"""Where no cache folder can be written, kernels are compiled anew instead of failing."""

from __future__ import annotations

import numba
import pytest

from digital_twins.models import _kernels


def test_kernels_compile_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []

    def njit(**options):
        asked.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert _kernels._jit(abs) is abs
    assert [options.get("cache", False) for options in asked] == [True, False]
    assert all("nnan" not in options["fastmath"] for options in asked), "a NaN must stay visible"
