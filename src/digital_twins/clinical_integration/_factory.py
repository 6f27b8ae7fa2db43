"""From a medical record number to a clinical twin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from digital_twins._errors import NotFoundError
from digital_twins.clinical_integration._build import build_clinical_twin
from digital_twins.clinical_integration._twin import ClinicalTwin
from digital_twins.clinical_integration._visits import split_images

if TYPE_CHECKING:
    from pydicom import Dataset

    from digital_twins.clinical_integration._connector import ClinicalConnector

_PATHOLOGY = ("diagnosis", "stage", "tnm", "histology", "pathology", "tumour-size", "disease-status")


class ClinicalDigitalTwinFactory:
    """Makes clinical twins of the patients that a connector reaches."""

    def __init__(self, connector: ClinicalConnector) -> None:
        self._connector = connector

    def create_from_patient(
        self,
        mrn: str,
        *,
        include_imaging: bool = True,
        include_pathology: bool = True,
        include_genomics: bool = True,
        seed: int = 0,
    ) -> ClinicalTwin:
        """Build the twin of one patient from everything that the hospital holds.

        Parameters
        ----------
        mrn
            Medical record number: FHIR identifier of type MR, and PatientID of the images.
        include_imaging
            Download the imaging studies and build the tumour twin.
        include_pathology
            Keep diagnosis, stage, TNM, histology and pathology reports; without it the twin knows none.
        include_genomics
            Keep biomarkers and variants.
        seed
            Seed of everything random.

        Raises
        ------
        NotFoundError
            The record or the images do not exist.
        InputError
            The images cannot make a twin, or belong to another patient.
        """
        record = self._connector.get_patient(mrn)
        if not include_pathology:
            record = record.without(*_PATHOLOGY)
        if not include_genomics:
            record = record.without("biomarker", "variant")
        if not include_imaging:
            return ClinicalTwin(record=record, connector=self._connector)
        images, segs = self._images_and_segs(record.patient_id)
        return replace(build_clinical_twin(record, images, segs, seed=seed), connector=self._connector)

    def _images_and_segs(self, patient_id: str) -> tuple[list[Dataset], list[Dataset]]:
        studies = self._connector.query_imaging(patient_id=patient_id)
        if not studies:
            raise NotFoundError(
                what="No imaging study was found for this patient.",
                why="The imaging archive holds no study under this medical record number.",
                fix="Check the number, or create the twin with include_imaging=False.",
            )
        return split_images(i for study in studies for i in self._connector.download_study(study.id))
