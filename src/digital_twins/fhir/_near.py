"""``Location.near``: places within a distance of a point on the globe (FHIR R4, Location, 8.7.4.1).

The index holds a position as a row of the quantities: ``low`` is the latitude, ``high`` the longitude, in
degrees (WGS84). Distances are great circles on a sphere of the mean radius of the Earth.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from digital_twins.fhir._conditions import rows_of
from digital_twins.fhir._outcome import FhirError, bad_request

if TYPE_CHECKING:
    from digital_twins.fhir._conditions import Test, Value
    from digital_twins.fhir._definitions import SearchParameter

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (2a + b) / 3 of the WGS84 ellipsoid, a = 6378.137 km, b = 6356.7523 km."""
DEFAULT_KM = 50.0
"""Distance where the search names none: the standard leaves it to the server."""
_IN_KM = {
    "": 1.0,
    "km": 1.0,
    "m": 0.001,
    "[mi_us]": 1.609347218694437,
    "[mi_i]": 1.609344,
    "mi": 1.609344,
    "[nmi_i]": 1.852,
    "[ft_i]": 0.0003048,
}
"""UCUM units of length; ``mi`` is not of UCUM, but what people write."""


def _number(text: str) -> float:
    try:
        value = float(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError):
        raise _bad() from None
    if not math.isfinite(value):
        raise _bad()
    return value


def _bad() -> FhirError:
    text = "The value of 'near' is written latitude|longitude|distance|units, degrees and a UCUM length."
    return bad_request(text, code="value")


def near_test(parameter: SearchParameter, text: str) -> Test:
    """Return the test of ``latitude|longitude|distance|units``; 50 km without a distance, km without units.

    Raises
    ------
    FhirError
        400 when the value cannot be read, or is no place on the globe.
    """
    parts = text.split("|")
    if not 2 <= len(parts) <= 4 or (len(parts) == 4 and parts[3] not in _IN_KM):
        raise _bad()
    latitude, longitude = _number(parts[0]), _number(parts[1])
    unit_km = _IN_KM[parts[3]] if len(parts) == 4 else 1.0
    distance_km = _number(parts[2]) * unit_km if len(parts) > 2 and parts[2] else DEFAULT_KM
    if abs(latitude) > 90 or abs(longitude) > 180 or distance_km < 0:
        raise _bad()
    angle = distance_km / EARTH_RADIUS_KM
    band = math.degrees(angle) * (1 + 1e-9) + 1e-9  # the index narrows to a band of latitudes
    bounds: list[Value] = [latitude - band, latitude + band]
    if angle >= math.pi:
        return rows_of(parameter, "fhir_quantity", "low>=? AND low<=?", bounds)
    # The haversine of the angle, so that no inverse function is needed; it is well conditioned near zero.
    half_latitude = "sin(radians(low-?)/2)"
    half_longitude = "sin(radians(high-?)/2)"
    haversine = f"{half_latitude}*{half_latitude}+cos(radians(low))*?*{half_longitude}*{half_longitude}"
    values = [latitude, latitude, math.cos(math.radians(latitude)), longitude, longitude]
    limit = math.sin(angle / 2) ** 2 * (1 + 1e-12) + 1e-18
    condition = f"low>=? AND low<=? AND {haversine}<=?"
    return rows_of(parameter, "fhir_quantity", condition, [*bounds, *values, limit])
