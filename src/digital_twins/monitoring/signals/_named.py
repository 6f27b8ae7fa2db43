"""Patients of many rows as numbers into a list of names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Named:
    """One name a row.

    Attributes
    ----------
    numbers
        Place of each row's name, [row].
    names
        The names; it may hold more than the rows need.
    """

    numbers: NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> Named:
        """Return a list of one name a row in this form."""
        known: dict[str, int] = {}
        numbers = np.fromiter((known.setdefault(each, len(known)) for each in names), np.int64, len(names))
        return cls(numbers, list(known))

    @classmethod
    def join(cls, pieces: Sequence[Named]) -> Named:
        """Return pieces as one."""
        if all(each.names is pieces[0].names for each in pieces):
            return cls(np.concatenate([each.numbers for each in pieces]), pieces[0].names)
        known: dict[str, int] = {}
        numbers = []
        for each in pieces:
            names, rows = each.compact()
            numbers.append(np.array([known.setdefault(name, len(known)) for name in names])[rows])
        return cls(np.concatenate(numbers), list(known))

    def compact(self) -> tuple[list[str], NDArray[np.intp]]:
        """Return the names that occur, and the place of each row's among them."""
        used = np.zeros(len(self.names), dtype=np.bool_)
        used[self.numbers] = True
        found = np.flatnonzero(used)
        place = np.zeros(len(self.names), dtype=np.intp)
        place[found] = np.arange(len(found))
        return [self.names[row] for row in found.tolist()], place[self.numbers]

    def tolist(self) -> list[str]:
        """Return one name a row."""
        return [self.names[row] for row in self.numbers.tolist()]

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.numbers)
