"""Lazy public doors (PEP 562): a room's ``__init__`` names its exports, the module loads on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def exports(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``(__getattr__, __dir__)`` for a package whose public names live in private modules.

    Parameters
    ----------
    package
        ``__name__`` of the package.
    where
        Public name to the module that defines it, e.g. ``{"Volume": "digital_twins.imaging._volume"}``.
    """

    def __getattr__(name: str) -> object:  # noqa: N807  (PEP 562 gives the name)
        try:
            module = where[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        return getattr(import_module(module), name)

    def __dir__() -> list[str]:  # noqa: N807  (PEP 562 gives the name)
        return sorted(where)

    return __getattr__, __dir__
