"""How many records share each combination of what a stranger may know (k-anonymity)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class KAnonymity:
    """The smallest groups of a table.

    Parameters
    ----------
    k
        Size of the smallest group; 0 for an empty table.
    groups
        Number of groups.
    unique_records
        Records that are alone in their group.
    records_below_5
        Records in groups of fewer than five.
    """

    k: int
    groups: int
    unique_records: int
    records_below_5: int


def k_anonymity(records: Iterable[Mapping[str, object]], quasi_identifiers: Sequence[str]) -> KAnonymity:
    """Count the groups of records that agree in all quasi-identifiers.

    Source: Sweeney 2002, doi:10.1142/S0218488502001648.

    Parameters
    ----------
    records
        One mapping a person; what is missing counts as a value of its own.
    quasi_identifiers
        Names of what a stranger may know, e.g. sex, age band, three digits of the ZIP code.

    Raises
    ------
    InputError
        No quasi-identifier is named.
    """
    if not quasi_identifiers:
        raise InputError(
            "k-anonymity was not counted.", "No quasi-identifier is named.", "Name at least one, e.g. sex."
        )
    sizes = Counter(tuple(record.get(name) for name in quasi_identifiers) for record in records)
    small = [size for size in sizes.values() if size < 5]
    return KAnonymity(
        min(sizes.values(), default=0), len(sizes), sum(size == 1 for size in sizes.values()), sum(small)
    )
