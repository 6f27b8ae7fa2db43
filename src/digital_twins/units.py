"""Conversions that several rooms share; every name says its units."""

from __future__ import annotations

MM3_PER_CM3 = 1000.0
DAYS_PER_WEEK = 7.0
DAYS_PER_MONTH = 30.4375
HOURS_PER_DAY = 24.0
SECONDS_PER_DAY = 86400.0


def mm3_to_cm3(volume_mm3: float) -> float:
    """Convert cubic millimetres to cubic centimetres."""
    return volume_mm3 / MM3_PER_CM3


def body_surface_area_m2(weight_kg: float, height_cm: float) -> float:
    """Body surface area in m2 after Mosteller, N Engl J Med 1987;317:1098 (sqrt(cm x kg / 3600))."""
    return float((weight_kg * height_cm / 3600.0) ** 0.5)
