"""The word lists that the package carries."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def word_list(name: str) -> frozenset[str]:
    """Return the words of ``words/<name>.txt``; lines that start with ``#`` say what it holds."""
    text = files(__package__).joinpath(f"words/{name}.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
