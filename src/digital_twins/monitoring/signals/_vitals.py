"""The vital signs that the monitor knows: codes, units and what a living patient can show."""

from __future__ import annotations

from dataclasses import dataclass

from digital_twins._errors import NotFoundError


@dataclass(frozen=True, slots=True)
class VitalSign:
    """One row of the table of vital signs.

    Attributes
    ----------
    code
        Short name in this software and in JSON messages, such as ``"HR"``.
    name
        What a person reads.
    unit
        UCUM unit of every stored value.
    mdc
        IEEE 11073-10101 code; 0: none is known.
    loinc
        LOINC code of the observation; empty: none is known.
    low, high
        Values outside are no measurement of a living patient; a clinical choice of this project.
    max_change_per_s
        A faster change between two values is no measurement; a clinical choice of this project.
    flat_s
        Identical values for longer mean a frozen signal; 0: repeats are normal.
    stale_s
        Age at which the last value is no longer shown.
    """

    code: str
    name: str
    unit: str
    mdc: int
    loinc: str
    low: float
    high: float
    max_change_per_s: float
    flat_s: float
    stale_s: float


# MDC and LOINC codes: those marked below were written from memory and not read in their source.
VITALS: tuple[VitalSign, ...] = (
    VitalSign("HR", "Heart rate", "/min", 147842, "8867-4", 10, 300, 60, 900, 30),
    VitalSign("PULSE", "Pulse rate", "/min", 149530, "8889-8", 10, 300, 60, 900, 30),  # LOINC [verify]
    VitalSign("SPO2", "Oxygen saturation", "%", 150456, "59408-5", 20, 100, 20, 0, 30),  # LOINC [verify]
    VitalSign("RR", "Respiratory rate", "/min", 151578, "9279-1", 2, 90, 30, 900, 60),
    VitalSign("TEMP", "Temperature", "Cel", 150344, "8310-5", 25, 44, 0.5, 0, 14400),  # MDC [verify]
    VitalSign("ART_SYS", "Arterial pressure, systolic", "mm[Hg]", 150033, "76215-3", 30, 280, 60, 600, 30),
    VitalSign("ART_DIA", "Arterial pressure, diastolic", "mm[Hg]", 150034, "76213-8", 10, 200, 60, 600, 30),
    VitalSign("ART_MEAN", "Arterial pressure, mean", "mm[Hg]", 150035, "76214-6", 20, 230, 60, 600, 30),
    VitalSign("NIBP_SYS", "Cuff pressure, systolic", "mm[Hg]", 150021, "8480-6", 30, 280, 200, 0, 7200),
    VitalSign("NIBP_DIA", "Cuff pressure, diastolic", "mm[Hg]", 150022, "8462-4", 10, 200, 200, 0, 7200),
    VitalSign("NIBP_MEAN", "Cuff pressure, mean", "mm[Hg]", 150023, "8478-0", 20, 230, 200, 0, 7200),
    VitalSign("FIO2", "Inspired oxygen fraction", "%", 0, "3150-6", 15, 100, 100, 0, 28800),  # LOINC [verify]
    VitalSign("ETCO2", "End-tidal carbon dioxide", "mm[Hg]", 0, "19891-1", 2, 150, 30, 0, 60),  # [verify]
    VitalSign("ACVPU", "Consciousness (0 alert, 1 C, V, P or U)", "1", 0, "", 0, 1, 10, 0, 28800),
)
"""Every vital sign, in the order of the columns of all arrays ``[patients, vitals]`` of this room. The LOINC
codes 76213-8 to 76215-3 (invasive pressures) are from memory [verify]."""

COLUMN: dict[str, int] = {each.code: number for number, each in enumerate(VITALS)}
"""Column of each code."""

MDC_CODE: dict[int, str] = {each.mdc: each.code for each in VITALS if each.mdc} | {
    150037: "ART_SYS",  # MDC_PRESS_BLD_ART_ABP_SYS and its two neighbours [verify]
    150038: "ART_DIA",
    150039: "ART_MEAN",
}
"""Code of each IEEE 11073 number, with the synonyms that senders use."""

LOINC_CODE: dict[str, str] = {each.loinc: each.code for each in VITALS if each.loinc} | {"2708-6": "SPO2"}
"""Code of each LOINC code, with synonyms."""


def vital(code: str) -> VitalSign:
    """Return the row of a code.

    Raises
    ------
    NotFoundError
        There is no such code.
    """
    try:
        return VITALS[COLUMN[code]]
    except KeyError:
        raise NotFoundError(
            "The vital sign is not known.",
            "Its code is not in the table of vital signs.",
            f"Use one of {', '.join(COLUMN)}.",
        ) from None
