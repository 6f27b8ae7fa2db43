"""Radiation courses as data: fractions laid out in days, what modifies their effect, a dose map."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Number = Callable[..., float | None]

MAP_KEYS = ("dose_map", "plan", "registration")
"""Keys that hold images; ``patient_modeling`` reads them before a course is laid out."""

MINIMUM_INTERVAL_HOURS = 6.0
"""Two fractions of a day stand at least 6 h apart (ICRU practice for hyperfractionation)."""


@dataclass(frozen=True, slots=True)
class RadiationEffect:
    """What a treatment states of its own biology; None leaves a value to the patient's parameters.

    Attributes
    ----------
    alpha_beta_gy
        Ratio of the linear to the quadratic coefficient in Gy.
    repair_half_life_hours
        Half-life of sublethal damage; None or 0: full repair between fractions.
    delivery_minutes
        Duration of a fraction.
    hypoxic_fraction, oxygen_enhancement_ratio, reoxygenation_half_life_days
        Hypoxic part of the cells at the start, the dose that these need more, and how fast they reoxygenate.
    linear_above_gy
        Dose of a fraction above which log survival goes on straight.
    kick_off_day, doubling_days
        Day after the first fraction from which cells repopulate faster, and their doubling time then, in
        addition to the tumour's own growth, until the last fraction.
    """

    alpha_beta_gy: float | None = None
    repair_half_life_hours: float | None = None
    delivery_minutes: float | None = None
    hypoxic_fraction: float | None = None
    oxygen_enhancement_ratio: float | None = None
    reoxygenation_half_life_days: float | None = None
    linear_above_gy: float | None = None
    kick_off_day: float | None = None
    doubling_days: float | None = None

    def stated(self) -> dict[str, float]:
        """Return what is stated, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if value is not None}


EFFECT_KEYS = frozenset(f.name for f in fields(RadiationEffect))
COURSE_KEYS = frozenset({"fractions_per_day", "interval_hours", "gap_days"})
_NOT_POSITIVE = ("repair_half_life_hours", "delivery_minutes", "hypoxic_fraction", "kick_off_day")


def parse_effect(given: Mapping[str, Any], number: Number) -> RadiationEffect | None:
    """Read the biological keys of a radiation treatment; None when there is none.

    ``number(given, key, positive=..., largest=...)`` returns a checked number or None.
    """
    values = {
        key: number(given, key, positive=key not in _NOT_POSITIVE, largest=1e4)
        for key in EFFECT_KEYS
        if key in given
    }
    if not values:
        return None
    for key in _NOT_POSITIVE:
        if (values.get(key) or 0.0) < 0.0:
            raise InputError(f"'{key}' of a treatment is negative.", "It cannot be.", f"Correct '{key}'.")
    if (values.get("hypoxic_fraction") or 0.0) > 1.0 or (values.get("oxygen_enhancement_ratio") or 1.0) < 1.0:
        raise InputError(
            "The oxygenation of a radiation treatment is out of range.",
            "A hypoxic fraction lies between 0 and 1, and an oxygen enhancement ratio is at least 1.",
            "Correct 'hypoxic_fraction' or 'oxygen_enhancement_ratio'.",
        )
    for one, other in (
        ("hypoxic_fraction", "oxygen_enhancement_ratio"),
        ("kick_off_day", "doubling_days"),
    ):
        if (one in values) != (other in values):
            raise InputError(
                f"A radiation treatment has '{one if one in values else other}' alone.",
                f"It acts only together with '{other if one in values else one}'.",
                "Give both, or neither.",
            )
    return RadiationEffect(**values)


def spread_over_day(days: list[float], count: int, given: Mapping[str, Any], number: Number) -> list[float]:
    """Give each treatment day several fractions.

    ``fractions_per_day`` of them stand ``interval_hours`` (6 by default) apart; ``count`` are kept.
    """
    per_day = number(given, "fractions_per_day", largest=4.0)
    hours = number(given, "interval_hours", largest=24.0)
    if per_day is None:
        if hours is not None:
            raise InputError(
                "A radiation treatment has 'interval_hours' without 'fractions_per_day'.",
                "The interval is that between the fractions of one day.",
                "Add 'fractions_per_day', or remove 'interval_hours'.",
            )
        return days[:count]
    if per_day != int(per_day):
        raise InputError(
            f"'fractions_per_day' of a treatment is {per_day:g}.", "It counts.", "Give a whole number."
        )
    step = (hours or MINIMUM_INTERVAL_HOURS) / 24.0
    if (per_day - 1) * step >= 1.0:
        raise InputError(
            "The fractions of a day do not fit into it.",
            f"{per_day:g} fractions {24 * step:g} hours apart take longer than a day.",
            "Use a shorter 'interval_hours' or fewer fractions a day.",
        )
    return [day + step * i for day in days for i in range(int(per_day))][:count]


def days_needed(count: int, given: Mapping[str, Any]) -> int:
    """Number of treatment days that ``count`` fractions need."""
    per_day = given.get("fractions_per_day")
    if isinstance(per_day, bool) or not isinstance(per_day, int | float) or not per_day >= 1:
        return count
    return math.ceil(count / int(per_day))


def gaps(given: Mapping[str, Any], number: Number) -> frozenset[int]:
    """Days since the course's start on which no fraction is given (a break, a machine that is down)."""
    value = given.get("gap_days")
    if value is None:
        return frozenset()
    items = [value] if isinstance(value, int | float) else value
    if isinstance(value, str) or not hasattr(items, "__iter__"):
        raise InputError(
            "'gap_days' of a treatment is not a list of days.",
            "It names the days since the start on which no fraction is given.",
            "Write e.g. 'gap_days': [14, 15, 16].",
        )
    found = {number({"gap_days": day}, "gap_days", positive=False, largest=1e5) for day in items}
    if any(day is None or day != int(day) or day < 0 for day in found):
        raise InputError(
            "'gap_days' of a treatment holds a day that is no whole number from 0 on.",
            "Days count from the start of the course.",
            "Write e.g. 'gap_days': [14, 15, 16].",
        )
    return frozenset(int(day) for day in found if day is not None)
