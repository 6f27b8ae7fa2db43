"""All renderings of one report together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.reports._dicom import predicted_days, render_encapsulated_pdf, render_seg, render_sr
from digital_twins.reports._fhir import render_fhir
from digital_twins.reports._pdf import render_pdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    from digital_twins.reports._model import TwinReport


@dataclass(frozen=True, slots=True)
class Documents:
    """What a report becomes; ``segs`` is empty when no option predicts tumour on any day."""

    pdf: bytes
    encapsulated_pdf: Dataset
    sr: Dataset
    segs: tuple[Dataset, ...]
    fhir: dict[str, Any]

    @property
    def dicom(self) -> tuple[Dataset, ...]:
        """Every DICOM object, in the order in which an archive should get them."""
        return (*self.segs, self.sr, self.encapsulated_pdf)

    @property
    def identifiers(self) -> dict[str, str]:
        """Kind of document to SOP Instance UID or FHIR reference."""
        found = {"sr": str(self.sr.SOPInstanceUID), "pdf": str(self.encapsulated_pdf.SOPInstanceUID)}
        for i, seg in enumerate(self.segs):
            found[f"seg{i + 1}" if i else "seg"] = str(seg.SOPInstanceUID)
        for entry in self.fhir["entry"]:
            kind, _, _ = entry["request"]["url"].partition("/")
            found.setdefault(f"fhir:{kind}", entry["request"]["url"])
        return found


def documents(
    report: TwinReport,
    source_images: Sequence[Dataset],
    *,
    segmentation: Dataset | None = None,
    segment_number: int = 1,
) -> Documents:
    """Render a report in every form; the DICOM objects refer to each other and to the images.

    Parameters
    ----------
    report
        What to say.
    source_images
        Datasets of the series that the twin was built from.
    segmentation, segment_number
        Stored SEG of the measured lesion, if there is one.

    Returns
    -------
    Documents
        The same report and images give the same UIDs and ids.
    """
    pdf = render_pdf(report)
    segs = tuple(render_seg(report, source_images, day=day) for day in predicted_days(report))
    sr = render_sr(report, source_images, segmentation=segmentation, segment_number=segment_number)
    wrapped = render_encapsulated_pdf(report, pdf, [*source_images, *segs, sr])
    uids = {"sr": str(sr.SOPInstanceUID), "pdf": str(wrapped.SOPInstanceUID)}
    uids |= {f"seg{i}": str(seg.SOPInstanceUID) for i, seg in enumerate(segs)}
    return Documents(pdf, wrapped, sr, segs, render_fhir(report, pdf=pdf, dicom_uids=uids))
