"""Folders of plain files from twins and responses: tables, images, a page."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import StorageError

if TYPE_CHECKING:
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.treatment_simulation import Response


def export_twin(twin: "PatientTwin", folder: Path) -> list[Path]:
    """Write parameters of all versions, lesion, density and domain, the sources, and a page."""
    from digital_twins.imaging import save_nifti
    from digital_twins.patient_modeling import citations

    _make(folder)
    images = {"lesion": twin.lesion, "density": twin.density, "domain": twin.domain}
    for name, volume in images.items():
        save_nifti(volume, folder / f"{name}.nii.gz")
    rows = [
        (s.version, name, e.value, e.low, e.high, e.unit, e.source)
        for s in twin.history
        for name, e in s.belief.estimates().items()
    ]
    head = ("version", "parameter", "value", "low", "high", "unit", "source")
    _write_csv(folder / "parameters.csv", head, rows)
    sources = [(c.used_for, c.reference, c.verified) for c in citations(twin)]
    _write_csv(folder / "sources.csv", ("used_for", "reference", "verified"), sources)
    page = f'<!doctype html><meta charset="utf-8"><title>Patient twin</title>{twin._repr_html_()}\n'
    (folder / "twin.html").write_text(page, encoding="utf-8")
    return sorted(folder.iterdir())


def export_responses(responses: "Sequence[Response]", folder: Path) -> list[Path]:
    """Write the predicted courses as one table, and the probability of tumour at the horizon as images."""
    from digital_twins.imaging import save_nifti

    _make(folder)
    rows = [
        (number, response.label, *row)
        for number, response in enumerate(responses, start=1)
        for row in zip(
            response.prediction.days.tolist(),
            response.prediction.volume_cm3.tolist(),
            response.prediction.low_cm3.tolist(),
            response.prediction.high_cm3.tolist(),
            strict=True,
        )
    ]
    head = ("option", "treatment", "day", "volume_cm3", "low_cm3", "high_cm3")
    _write_csv(folder / "courses.csv", head, rows)
    for number, response in enumerate(responses, start=1):
        last = float(response.prediction.days[-1])
        save_nifti(response.prediction.probability_at(last), folder / f"probability_{number}.nii.gz")
    return sorted(folder.iterdir())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            "The folder of the export cannot be made.", str(error.strerror), "Choose another folder."
        ) from None


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
