"""Archives that priors are fetched from: by DIMSE with C-GET or C-MOVE, or by DICOMweb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.dicom._prefetch import Prior
from digital_twins.dicom._requestor import DimseFailedError
from digital_twins.dicom._scu import find, get, move

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydicom.dataset import Dataset

    from digital_twins.dicom._prefetch import PriorSource
    from digital_twins.dicom._profiles import VendorProfile
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Stored


class _Dimse:
    def __init__(
        self,
        remote: Remote,
        store: DicomStore,
        *,
        profile: VendorProfile,
        destination: str,
        on_stored: Callable[[Stored], None] | None,
    ) -> None:
        self._remote, self._store = remote, store
        self._profile, self._destination, self._on_stored = profile, destination, on_stored

    def studies(self, patient_id: str) -> list[Prior]:
        """C-FIND at the study level, and at the series level for the body parts."""
        asked = {
            "PatientID": patient_id,
            "StudyInstanceUID": "",
            "StudyDate": "",
            "ModalitiesInStudy": "",
            "NumberOfStudyRelatedInstances": "",
        }
        found = []
        for each in find(self._remote, asked):
            if str(each.get("PatientID") or "") != patient_id:
                continue
            keys = {"StudyInstanceUID": str(each.StudyInstanceUID), "SeriesInstanceUID": ""}
            series = find(self._remote, {**keys, "Modality": "", "BodyPartExamined": ""}, level="SERIES")
            found.append(_prior(each, series))
        return found

    def fetch(self, study_uid: str) -> int:
        """C-GET or C-MOVE, as the vendor profile says."""
        keys = {"StudyInstanceUID": study_uid}
        if self._profile.retrieve == "move":
            done = move(self._remote, self._destination, keys)
        else:
            done = get(self._remote, keys, into=self._keep)
        if done.failed:
            raise DimseFailedError(
                f"A prior was not fetched whole from {self._remote.called_ae}.",
                f"{done.failed} of its objects failed.",
                "Look at the archive's log; it is tried again.",
            )
        return done.completed

    def _keep(self, file: bytes) -> None:
        stored = self._store.ingest(file, source=self._remote.called_ae)
        if self._on_stored is not None:
            self._on_stored(stored)


class _Web:
    def __init__(
        self,
        web_url: str,
        store: DicomStore,
        *,
        headers: Mapping[str, str],
        source: str,
        on_stored: Callable[[Stored], None] | None,
    ) -> None:
        self._url, self._store, self._headers = web_url, store, dict(headers)
        self._source, self._on_stored = source, on_stored

    def studies(self, patient_id: str) -> list[Prior]:
        """QIDO-RS for studies, and for their series."""
        from digital_twins.dicom._web_client import DicomWebClient

        client = DicomWebClient(self._url, headers=self._headers)
        found: list[Any] = client.search_studies(PatientID=patient_id)
        return [
            _prior(each, client.search_series(str(each.StudyInstanceUID), fields=("BodyPartExamined",)))
            for each in found
            if str(each.get("PatientID") or "") == patient_id
        ]

    def fetch(self, study_uid: str) -> int:
        """WADO-RS into files, then into the store one by one."""
        from digital_twins.dicom._web_client import DicomWebClient

        client = DicomWebClient(self._url, headers=self._headers)
        study = client.download_study(study_uid)
        for path in study.paths:
            stored = self._store.ingest(path.read_bytes(), source=self._source)
            if self._on_stored is not None:
                self._on_stored(stored)
        return len(study.paths)


def dimse_source(
    remote: Remote,
    store: DicomStore,
    *,
    profile: VendorProfile,
    destination: str,
    on_stored: Callable[[Stored], None] | None = None,
) -> PriorSource:
    """Return an archive that is asked by C-FIND and C-GET or C-MOVE.

    Parameters
    ----------
    profile
        Says whether it is C-GET or C-MOVE.
    destination
        Our AE title in the archive's tables, for C-MOVE: objects come to the DICOM port of that title.
    on_stored
        Called for every object that came by C-GET and is on disk.
    """
    return _Dimse(remote, store, profile=profile, destination=destination, on_stored=on_stored)


def web_source(
    web_url: str,
    store: DicomStore,
    *,
    headers: Mapping[str, str],
    source: str,
    on_stored: Callable[[Stored], None] | None = None,
) -> PriorSource:
    """Return an archive that is asked by QIDO-RS and WADO-RS.

    Parameters
    ----------
    source
        Its name in the index and the audit trail.
    on_stored
        Called for every object that came to be on disk.
    """
    return _Web(web_url, store, headers=headers, source=source, on_stored=on_stored)


def _prior(study: Dataset, series: list[Dataset]) -> Prior:
    modalities: set[str] = set(_values(study.get("ModalitiesInStudy")))
    parts: set[str] = set()
    for each in series:
        modalities.update(_values(each.get("Modality")))
        parts.update(_values(each.get("BodyPartExamined")))
    return Prior(
        str(study.StudyInstanceUID),
        str(study.get("StudyDate") or ""),
        frozenset(modalities),
        frozenset(parts),
        int(study.get("NumberOfStudyRelatedInstances") or 0),
    )


def _values(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else [str(each) for each in value]
