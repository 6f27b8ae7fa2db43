"""From the units that senders write to those of the table: UCUM codes and IEEE 11073 unit names."""

from __future__ import annotations

from digital_twins._errors import InputError

# factor and offset: value in the table's unit = factor * value + offset
_TO: dict[tuple[str, str], tuple[float, float]] = {
    ("kPa", "mm[Hg]"): (7.500617, 0.0),
    ("[degF]", "Cel"): (5 / 9, -160 / 9),
    ("K", "Cel"): (1.0, -273.15),
    ("1", "%"): (100.0, 0.0),
    ("Hz", "/min"): (60.0, 0.0),
}
# IEEE 11073-10101 units (partition 4); the numbers of temperature and pressure are from memory [verify]
_ALIAS = {
    "{beats}/min": "/min",
    "{breaths}/min": "/min",
    "{beat}/min": "/min",
    "{resp}/min": "/min",
    "/min": "/min",
    "mmHg": "mm[Hg]",
    "degC": "Cel",
    "°C": "Cel",
    "{fraction}": "1",
    "264864": "/min",  # MDC_DIM_BEAT_PER_MIN
    "264928": "/min",  # MDC_DIM_RESP_PER_MIN
    "262688": "%",  # MDC_DIM_PERCENT
    "266016": "mm[Hg]",  # MDC_DIM_MMHG [verify]
    "268192": "Cel",  # MDC_DIM_DEGC [verify]
    "MDC_DIM_BEAT_PER_MIN": "/min",
    "MDC_DIM_RESP_PER_MIN": "/min",
    "MDC_DIM_PERCENT": "%",
    "MDC_DIM_MMHG": "mm[Hg]",
    "MDC_DIM_DEGC": "Cel",
    "MDC_DIM_FAHR": "[degF]",
    "MDC_DIM_KILO_PASCAL": "kPa",
}


def in_unit(value: float, unit: str, wanted: str) -> float:
    """Return a value in another unit; an empty unit means the wanted one.

    Raises
    ------
    InputError
        No conversion between the two is known, so the value would be wrong.
    """
    source = _ALIAS.get(unit, unit) or wanted
    if source == wanted:
        return value
    factor, offset = _TO.get((source, wanted), (0.0, 0.0))
    if not factor:
        raise InputError(
            "The unit of a vital sign cannot be used.",
            f"No conversion to {wanted} is known.",
            f"Send the value in {wanted} (UCUM).",
        )
    return factor * value + offset
