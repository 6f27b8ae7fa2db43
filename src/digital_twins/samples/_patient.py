"""The sample patients."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from digital_twins._errors import NotFoundError
from digital_twins.imaging import Mask, Volume, as_mask, load_volume
from digital_twins.samples import _dicom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.dataset import Dataset

NAMES: tuple[Literal["lung"], Literal["brain"]] = ("lung", "brain")
_BASELINE = {
    "lung": datetime(2025, 3, 3, 9, 30, tzinfo=UTC),
    "brain": datetime(2025, 4, 7, 9, 30, tzinfo=UTC),
}
_MODALITY = {"lung": "CT", "brain": "MR"}
_DOMAIN_BIT = 7


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit: days since the baseline, the outline of the lesion, and whether it was simulated."""

    day: float
    mask: Mask
    simulated: bool

    @property
    def volume_cm3(self) -> float:
        """Volume of the lesion at this visit."""
        return self.mask.volume_cm3


@dataclass(frozen=True, slots=True)
class SamplePatient:
    """One sample patient: a real baseline, simulated follow-up and an invented record.

    Attributes
    ----------
    image, lesion
        The baseline image (Hounsfield units for the CT) and the outline of the tumour in it: real.
    domain
        Tissue in which the simulation let the tumour grow (approximate lung, approximate brain).
    visits
        The baseline (day 0, real outline) and the follow-up visits (simulated).
    truth
        Equation, parameters, noise and seed of the simulation, as in ``truth.json``.
    """

    name: str
    patient_id: str
    baseline: datetime
    image: Volume
    lesion: Mask
    domain: Mask
    visits: tuple[Visit, ...]
    truth: Mapping[str, Any]

    def baseline_images(self) -> list[Dataset]:
        """Return the baseline as a standard DICOM series (CT or MR Image Storage), one data set a slice.

        All UIDs and times are fixed: the same series every time.
        """
        return _dicom.images(self.image, self._subject(), _dicom.uids(self.name))

    def baseline_seg(self) -> Dataset:
        """Return the DICOM Segmentation of the baseline outline, in the study of the images."""
        return _dicom.segmentation(self.visits[0], self.baseline_images(), self.name)

    def follow_up_segs(self) -> list[Dataset]:
        """Return one Segmentation for each simulated visit, each in a study of its own on that day.

        They lie in the frame of reference of the baseline and refer to its images; no image was acquired.
        """
        images = self.baseline_images()
        return [_dicom.segmentation(visit, images, self.name) for visit in self.visits[1:]]

    def datasets(self) -> list[Dataset]:
        """Return everything that a hospital would send: images, baseline SEG, follow-up SEGs."""
        images = self.baseline_images()
        return [*images, *(_dicom.segmentation(visit, images, self.name) for visit in self.visits)]

    def fhir_bundle(self) -> dict[str, Any]:
        """Return the invented record as a FHIR R4 transaction; the room's docstring says its shape."""
        bundle: dict[str, Any] = _json(self.name, "bundle.json")
        return bundle

    def _subject(self) -> dict[str, Any]:
        patient: dict[str, Any] = self.fhir_bundle()["entry"][0]["resource"]
        return patient


def sample_patient(name: str) -> SamplePatient:
    """Return the sample patient ``"lung"`` or ``"brain"``.

    Raises
    ------
    NotFoundError
        There is no sample of that name.
    """
    if name not in NAMES:
        raise NotFoundError(
            what=f"There is no sample patient '{name[:40]}'.",
            why="The package holds two.",
            fix=f"Use one of: {', '.join(NAMES)}.",
        )
    truth: dict[str, Any] = _json(name, "truth.json")
    baseline = _BASELINE[name]
    patient_id = f"SAMPLE-{name.upper()}-001"
    with resources.as_file(_folder(name)) as folder:
        image = load_volume(folder / "image.nrrd")
        bits = load_volume(folder / "masks.nrrd").array
    uids = _dicom.uids(name)
    image = replace(
        image,
        modality=_MODALITY[name],
        acquired=baseline,
        frame_of_reference_uid=uids("frame"),
        patient_id=patient_id,
        source_uids=tuple(uids("image", k) for k in range(image.shape[0])),
    )
    visits = tuple(
        Visit(
            float(visit["day"]),
            replace(
                as_mask(image, (bits >> n) & 1 > 0),
                acquired=baseline + timedelta(days=float(visit["day"])),
            ),
            bool(visit["simulated"]),
        )
        for n, visit in enumerate(truth["visits"])
    )
    return SamplePatient(
        name=name,
        patient_id=patient_id,
        baseline=baseline,
        image=image,
        lesion=visits[0].mask,
        domain=as_mask(image, bits >> _DOMAIN_BIT > 0),
        visits=visits,
        truth=truth,
    )


def _folder(name: str) -> Any:
    return resources.files("digital_twins.samples") / "data" / name


def _json(name: str, file: str) -> Any:
    return json.loads((_folder(name) / file).read_text(encoding="utf-8"))
