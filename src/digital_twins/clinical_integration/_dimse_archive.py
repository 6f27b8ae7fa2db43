"""An imaging archive at the end of ``dicom://AET@host:port``, asked as the connector asks DICOMweb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pydicom import Dataset

    from digital_twins.dicom import DownloadedStudy, Progress, Remote

SCHEME = "dicom://"
_STUDY_KEYS = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)


@dataclass(frozen=True, slots=True)
class DimseArchive:
    """An archive by C-ECHO, C-FIND and C-GET, or C-MOVE to a port that is opened for it.

    Attributes
    ----------
    remote
        How it is called.
    receive_at
        Address and port for C-MOVE; None asks by C-GET.
    """

    remote: Remote
    receive_at: tuple[str, int] | None = None

    @classmethod
    def at(cls, endpoint: str) -> DimseArchive:
        """Read ``dicom://AET@host:port``, with ``?calling=AET`` (default TWIN) and ``&receive=[host:]port``.

        Raises
        ------
        InputError
            Another form.
        """
        from digital_twins.dicom import Remote

        parts = urlsplit(endpoint)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            port, receive = parts.port, options.pop("receive", "")
            host, _, digits = receive.rpartition(":")
            receive_at = (host or "127.0.0.1", int(digits)) if receive else None
        except ValueError:
            port, receive_at = None, None
        calling = options.pop("calling", "TWIN")
        if parts.scheme != "dicom" or not (parts.hostname and port and parts.username) or options:
            raise InputError(
                "The archive's address cannot be read.",
                "It is not dicom://AET@host:port with calling and receive as only options.",
                'Write e.g. "dicom://PACS@10.1.2.3:104" or "dicom://PACS@10.1.2.3:104?receive=0.0.0.0:11112".',
            )
        return cls(Remote(parts.hostname, port, called_ae=parts.username, calling_ae=calling), receive_at)

    def echo(self) -> None:
        """C-ECHO; raises DimseFailedError."""
        from digital_twins import dicom

        dicom.echo(self.remote)

    def search_studies(self, **filters: str) -> list[Dataset]:
        """C-FIND at the study level; ModalitiesInStudy is worked out where the archive leaves it out."""
        from digital_twins import dicom

        found = dicom.find(self.remote, {**dict.fromkeys(_STUDY_KEYS, ""), **filters})
        for study in found:
            if not study.get("ModalitiesInStudy"):
                series = self.search_series(str(study.StudyInstanceUID))
                study.ModalitiesInStudy = sorted({str(each.get("Modality") or "") for each in series} - {""})
        return found

    def search_series(self, study_uid: str, *, fields: Iterable[str] = ()) -> list[Dataset]:
        """C-FIND at the series level; ``fields`` are further keys to ask for."""
        from digital_twins import dicom

        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": "", "Modality": ""}
        return dicom.find(self.remote, {**keys, **dict.fromkeys(fields, "")}, level="SERIES")

    def download_study(
        self,
        study_uid: str,
        folder: str | Path | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> DownloadedStudy:
        """C-GET or C-MOVE of a study into files; raises as `digital_twins.dicom.download_study` does."""
        from digital_twins.dicom import download_study

        return download_study(self.remote, study_uid, folder, progress=progress, receive_at=self.receive_at)
