"""What a report needs to know, gathered once and frozen, so that every rendering says the same."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pydicom.dataset import Dataset

    from digital_twins.imaging import Mask, Volume
    from digital_twins.plotting import Curve, VolumePoint
    from digital_twins.records import PatientRecord, Quantity

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:digital-twins:report")

RESEARCH_USE = (
    "Decision support for research use only; not a certified medical device. "
    "Predictions are model results with the stated uncertainty, not measurements, "
    "and must not be the sole basis of a treatment decision."
)
"""The sentence that stands in every report, in every rendering."""

PRELIMINARY = "PRELIMINARY - not reviewed, not signed"

TEST_DATA = "Contains invented or sample data (HTEST): not a real patient's record."
SIMULATED_FOLLOW_UP = "Follow-up volumes marked 'simulated' come from a stated model, not from examinations."


@dataclass(frozen=True, slots=True)
class ParameterSummary:
    """A model parameter: its name, value with interval, whether it was held fixed, and its source."""

    name: str
    estimate: Quantity
    fixed: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class TwinSummary:
    """The numbers of one version of a twin.

    Attributes
    ----------
    twin_id, version, model
        Which twin, which of its versions, and the model's name, e.g. ``"reaction_diffusion"``.
    volume
        Segmented volume of the baseline lesion in cm3: the measured one.
    current_volume, current_day
        Volume on the day of the last observation as the model has it, with its interval; None before any
        follow-up.
    longest_diameter
        Longest diameter of the baseline lesion in mm.
    growth_rate
        Proliferation rate per day with its interval.
    observed
        Volumes that the twin was calibrated to.
    inputs
        Name of each input to the SHA-256 of its bytes.
    image, lesion
        Baseline image and lesion on one grid, for the figure; None when there are none.
    """

    twin_id: str
    version: int
    model: str
    volume: Quantity
    growth_rate: Quantity
    longest_diameter: Quantity | None = None
    parameters: tuple[ParameterSummary, ...] = ()
    observed: tuple[VolumePoint, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    baseline: datetime | None = None
    image: Volume | None = None
    lesion: Mask | None = None
    seed: int | None = None
    current_volume: Quantity | None = None
    current_day: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptionSummary:
    """One treatment option and what the twin predicts for it.

    ``change`` is the change of volume in percent from ``origin_day`` (the twin's "now") to the last day of
    ``curve``; ``probabilities`` gives each response category its share of the samples; ``predicted`` holds
    ``(day, mask)`` of the predicted tumour; ``assumptions`` says in words what was assumed. Days count from
    the twin's baseline.
    """

    label: str
    curve: Curve
    change: Quantity
    category: str
    criteria: str = "RECIST 1.1"
    probabilities: Mapping[str, float] = field(default_factory=dict)
    input_hash: str = ""
    predicted: tuple[tuple[float, Mask], ...] = ()
    origin_day: float = 0.0
    assumptions: tuple[str, ...] = ()

    @property
    def horizon_days(self) -> float:
        """Last day of the prediction."""
        return float(self.curve.days[-1])

    @property
    def volume(self) -> Quantity:
        """Predicted volume in cm3 on the last day, with its interval."""
        from digital_twins.records import Quantity

        curve = self.curve
        low, high = float(curve.low_cm3[-1]), float(curve.high_cm3[-1])
        return Quantity(float(curve.median_cm3[-1]), "cm3", low, high, self.change.level)


@dataclass(frozen=True, slots=True)
class StudyReference:
    """The imaging study that the twin was built from."""

    study_uid: str
    series_uid: str = ""
    accession_number: str = ""
    study_date: str = ""
    modality: str = ""
    description: str = ""

    @classmethod
    def of(cls, image: Dataset) -> Self:
        """Return the reference to the study that a DICOM instance belongs to."""
        day = str(image.get("StudyDate") or "")
        return cls(
            study_uid=str(image.StudyInstanceUID),
            series_uid=str(image.SeriesInstanceUID),
            accession_number=str(image.get("AccessionNumber") or ""),
            study_date=f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 else day,
            modality=str(image.get("Modality") or ""),
            description=str(image.get("StudyDescription") or ""),
        )


@dataclass(frozen=True, slots=True)
class TwinReport:
    """Everything that a document about a twin says.

    Raises
    ------
    InputError
        There is no treatment option, a prediction came without interval, or ``created`` has no timezone.
    """

    record: PatientRecord
    twin: TwinSummary
    options: tuple[OptionSummary, ...]
    study: StudyReference
    created: datetime
    software_name: str = "digital-twins"
    software_version: str = ""

    def __post_init__(self) -> None:
        if self.created.tzinfo is None:
            raise InputError(
                "The report needs a timezone-aware time of creation.",
                "TwinReport.created carries no timezone.",
                "Pass datetime.now(tz=UTC).",
            )
        if not self.options or not all(o.change.has_interval for o in self.options):
            raise InputError(
                "The report has no complete prediction.",
                "There is no treatment option, or one came without its interval.",
                "Pass at least one response of TreatmentSimulator.",
            )

    @property
    def report_id(self) -> str:
        """UUID that depends on what the report says: the same run gives the same, another answer another."""
        said = [self.twin.twin_id, self.twin.version, self.software_version]
        for option in self.options:
            said += [option.label, option.input_hash, option.category, option.horizon_days]
            said += [float(x).hex() for x in (option.change.value, *option.curve.median_cm3)]
        digest = hashlib.sha256("|".join(map(str, said)).encode()).hexdigest()
        return str(uuid.uuid5(NAMESPACE, digest))

    def id_of(self, kind: str) -> str:
        """Return the UUID of a part of this report, e.g. ``"sr"`` or ``"risk/0"``."""
        return str(uuid.uuid5(NAMESPACE, f"{self.report_id}/{kind}"))

    def uid_of(self, kind: str) -> str:
        """Return the DICOM UID of a part of this report (``2.25.`` form, PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(self.id_of(kind)).int}"

    @property
    def tracking_uid(self) -> str:
        """UID of the lesion: the same for every version of the twin."""
        return f"2.25.{uuid.uuid5(NAMESPACE, f'{self.twin.twin_id}/lesion').int}"

    @property
    def notices(self) -> tuple[str, ...]:
        """Labels for sample and simulated data that every rendering carries."""
        found = []
        if "HTEST" in self.record.security_labels:
            found.append(TEST_DATA)
        if any(point.simulated for point in self.twin.observed):
            found.append(SIMULATED_FOLLOW_UP)
        return tuple(found)
