"""What the predictors read: parameters of an intensive care record, their units and plausible ranges."""

from __future__ import annotations

from typing import NamedTuple


class RecordParameter(NamedTuple):
    """One parameter of a record.

    Attributes
    ----------
    name
        Name in the record, as in the PhysioNet/CinC Challenge 2012.
    unit
        Unit of its values.
    low, high
        Values outside are errors of charting (a disconnected line, a missing mark of -1, a lost decimal
        point) and are left out. Choices of this project, wide enough for every living patient.
    kind
        ``vital``, ``other`` (laboratory, coma score, ventilation, urine) or ``fixed`` (known at admission).
    """

    name: str
    unit: str
    low: float
    high: float
    kind: str


PARAMETERS = (
    RecordParameter("HR", "/min", 15, 300, "vital"),
    RecordParameter("MAP", "mmHg", 15, 250, "vital"),
    RecordParameter("SysABP", "mmHg", 30, 300, "vital"),
    RecordParameter("DiasABP", "mmHg", 10, 200, "vital"),
    RecordParameter("NIMAP", "mmHg", 15, 250, "vital"),
    RecordParameter("NISysABP", "mmHg", 30, 300, "vital"),
    RecordParameter("NIDiasABP", "mmHg", 10, 200, "vital"),
    RecordParameter("Temp", "Cel", 25, 45, "vital"),
    RecordParameter("RespRate", "/min", 2, 80, "vital"),
    RecordParameter("SaO2", "%", 30, 100, "vital"),
    RecordParameter("GCS", "1", 3, 15, "other"),
    RecordParameter("FiO2", "1", 0.2, 1.0, "other"),
    RecordParameter("MechVent", "1", 1, 1, "other"),
    RecordParameter("Urine", "ml", 0, 5000, "other"),
    RecordParameter("Weight", "kg", 20, 300, "other"),
    RecordParameter("pH", "1", 6.5, 8.0, "other"),
    RecordParameter("PaCO2", "mmHg", 5, 150, "other"),
    RecordParameter("PaO2", "mmHg", 15, 700, "other"),
    RecordParameter("HCT", "%", 5, 70, "other"),
    RecordParameter("K", "mmol/l", 1.5, 12, "other"),
    RecordParameter("Na", "mmol/l", 90, 190, "other"),
    RecordParameter("Mg", "mg/dl", 0.3, 10, "other"),
    RecordParameter("HCO3", "mmol/l", 2, 60, "other"),
    RecordParameter("Glucose", "mg/dl", 10, 2000, "other"),
    RecordParameter("BUN", "mg/dl", 1, 250, "other"),
    RecordParameter("Creatinine", "mg/dl", 0.1, 30, "other"),
    RecordParameter("WBC", "10*9/l", 0.1, 500, "other"),
    RecordParameter("Platelets", "10*9/l", 1, 2000, "other"),
    RecordParameter("Lactate", "mmol/l", 0.2, 40, "other"),
    RecordParameter("Bilirubin", "mg/dl", 0.1, 80, "other"),
    RecordParameter("AST", "U/l", 2, 30000, "other"),
    RecordParameter("ALT", "U/l", 1, 30000, "other"),
    RecordParameter("ALP", "U/l", 5, 5000, "other"),
    RecordParameter("Albumin", "g/dl", 0.5, 6.5, "other"),
    RecordParameter("TroponinT", "ug/l", 0.005, 100, "other"),
    RecordParameter("TroponinI", "ug/l", 0.1, 500, "other"),
    RecordParameter("Cholesterol", "mg/dl", 20, 600, "other"),
    RecordParameter("Age", "a", 14, 120, "fixed"),
    RecordParameter("Gender", "1", 0, 1, "fixed"),
    RecordParameter("Height", "cm", 120, 230, "fixed"),
    RecordParameter("ICUType", "1", 1, 4, "fixed"),
)
"""The parameters in order. Others in a record are left out (here only RecordID, which says nothing)."""

NUMBER = {each.name: number for number, each in enumerate(PARAMETERS)}
"""Place of each parameter in `PARAMETERS`."""
