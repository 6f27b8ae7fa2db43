"""A sample patient as files, for people who try things out."""

from __future__ import annotations

import json
from pathlib import Path

from digital_twins.imaging import save_nifti
from digital_twins.samples._patient import sample_patient
from digital_twins.units import DAYS_PER_WEEK


def write_sample(name: str, folder: str | Path) -> list[Path]:
    """Write a sample patient to a folder (made if absent) and return the paths, in the order written.

    ``dicom/`` holds the baseline series, its SEG and the SEGs of the simulated visits; ``bundle.json`` the
    FHIR record; ``image.nii.gz``, ``tumor_mask.nii.gz`` and ``domain.nii.gz`` the baseline;
    ``scan_week_N.nii.gz`` the outline at each visit (SIMULATED after week 0); ``truth.json`` how they were
    simulated.

    Raises
    ------
    NotFoundError
        There is no sample of that name.
    """
    sample = sample_patient(name)
    folder = Path(folder)
    dicom = folder / "dicom"
    dicom.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset in sample.datasets():
        kind = str(dataset.Modality).lower()
        label = f"{int(dataset.InstanceNumber):03d}" if kind != "seg" else str(dataset.ContentDate)
        path = dicom / f"{kind}_{label}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        written.append(path)
    for title, volume in (
        ("image", sample.image),
        ("tumor_mask", sample.lesion),
        ("domain", sample.domain),
        *((f"scan_week_{visit.day / DAYS_PER_WEEK:g}", visit.mask) for visit in sample.visits),
    ):
        written.append(folder / f"{title}.nii.gz")
        save_nifti(volume, written[-1])
    for title, content in (("bundle", sample.fhir_bundle()), ("truth", sample.truth)):
        written.append(folder / f"{title}.json")
        written[-1].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return written
