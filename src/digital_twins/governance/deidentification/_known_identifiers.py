"""Identifiers that a record holds of its patient and staff: they go wherever a text repeats them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from digital_twins.governance.deidentification._word_list import word_list

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = re.compile(r"[^\W\d_]+")
_SHORTEST_NAME, _SHORTEST_FUZZY, _SHORTEST_VALUE = 2, 6, 4
_LONGEST_FUZZY = 40
_PARTICLES = frozenset(
    ("de", "da", "di", "do", "of", "la", "le", "van", "von", "der", "den", "dos", "jr", "sr")
)
_TITLES = frozenset(("dr", "mr", "mrs", "ms", "prof", "md", "rn", "phd", "the", "and"))


def plain(text: str) -> str:
    """Return a text in lower case without accents, to compare names."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in parts if not unicodedata.combining(each))


@dataclass(frozen=True)
class KnownIdentifiers:
    """What is known of the people of a record.

    Parameters
    ----------
    names
        Personal names in any order of their parts, e.g. ``"Eva Meier"`` or ``"Meier, Eva"``; each part goes
        alone too, with another case, without accents, and (from six letters on) with one letter wrong.
    values
        Numbers, telephone numbers, addresses, names of places and organisations: they go as a whole,
        whatever signs stand between their letters and digits. Those under four letters or digits are left.
    """

    names: frozenset[str] = frozenset()
    values: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, names: Iterable[str] = (), values: Iterable[str] = ()) -> KnownIdentifiers:
        """Return the identifiers of any collections."""
        return cls(frozenset(names), frozenset(values))

    @cached_property
    def name_words(self) -> frozenset[str]:
        """Parts of the names, in lower case, without accents, particles and titles."""
        words = {plain(word) for name in self.names for word in _WORD.findall(name)}
        kept = {word for word in words if len(word) >= _SHORTEST_NAME}
        return frozenset(kept - _PARTICLES - _TITLES - word_list("harmless"))

    def is_name(self, word: str) -> bool:
        """Tell whether a word is a part of a name, or that with one letter wrong or two swapped."""
        lower = plain(word)
        if lower in self.name_words:
            return True
        if not _SHORTEST_FUZZY <= len(lower) <= _LONGEST_FUZZY or not word[0].isupper():
            return False
        return not self._near.isdisjoint(_without_one(lower))

    def holds(self, value: str) -> bool:
        """Tell whether a value is, or has in it, one of the values or a part of a name."""
        words = {plain(word) for word in _WORD.findall(value)}
        return bool(words & self.name_words or (self.pattern and self.pattern.search(value)))

    @cached_property
    def _near(self) -> frozenset[str]:
        long = (word for word in self.name_words if len(word) >= _SHORTEST_FUZZY)
        return frozenset(each for word in long for each in _without_one(word))

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """Expression for every value, longest first; None when there is none."""
        parts = []
        for value in sorted(self.values, key=lambda each: (-len(each), each)):
            letters = [each for each in value if each.isalnum()]
            if len(letters) >= _SHORTEST_VALUE:
                parts.append(r"[\W_]{0,3}".join(map(re.escape, letters)))
        return re.compile(rf"(?<![^\W_])(?:{'|'.join(parts)})(?![^\W_])", re.IGNORECASE) if parts else None


def _without_one(word: str) -> set[str]:
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}
