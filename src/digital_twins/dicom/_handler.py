"""DICOMHandler: read a series from disk, and hand a twin's results back to the archive."""

from __future__ import annotations

import uuid
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from digital_twins import __version__
from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.dicom._documents import DocumentIdentity, Software
from digital_twins.dicom._twin_codes import (
    DATA_STATUS,
    GROWTH_RATE,
    MODEL_ESTIMATE,
    NOT_ACQUIRED,
    PREDICTED_RESPONSE,
    VOLUME,
    response_code,
)
from digital_twins.records import Quantity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from digital_twins.dicom._measurement_report import MeasurementGroup

_METADATA = (
    "Modality",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
    "StudyDescription",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "Manufacturer",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
)
_CONTENT_KEYS = ("tumor_volume_cm3", "growth_rate", "predicted_response")


class TwinLike(Protocol):
    """What a structured report needs to know of a twin (``patient_modeling.PatientTwin`` has it)."""

    twin_id: str
    version: int
    patient_id: str


class DICOMHandler:
    """Read DICOM series and write a twin's results back as DICOM.

    Parameters
    ----------
    software
        The program named in what the handler writes; this package by default.

    Notes
    -----
    The handler remembers the headers of the series it loaded, so that a report finds the images of its
    patient; nothing is shared between handlers.
    """

    def __init__(self, *, software: Software | None = None) -> None:
        self._software = software or Software("digital-twins", __version__)
        self._loaded: dict[str, list[Dataset]] = {}

    def load_series(self, path: str | Path, *, series_uid: str | None = None) -> list[Dataset]:
        """Read one image series, ordered along its normal.

        Parameters
        ----------
        path
            A DICOM file or a folder that is searched through; other files in it are passed over.
        series_uid
            Series Instance UID to take when the folder holds several.

        Returns
        -------
        list of Dataset
            The instances, first slice first.

        Raises
        ------
        NotFoundError
            The path, a DICOM file in it, or the series asked for does not exist.
        InputError
            The folder holds several series and none was chosen.
        """
        series = defaultdict(list)
        for dataset in _read_all(Path(path)):
            series[str(dataset.get("SeriesInstanceUID", ""))].append(dataset)
        if series_uid is None and len(series) > 1:
            raise InputError(
                f"The folder holds {len(series)} series.",
                "A series is read one at a time.",
                "Pass series_uid=, one of: " + ", ".join(sorted(series)) + ".",
            )
        chosen = series_uid or next(iter(series))
        if chosen not in series:
            raise NotFoundError(
                "The series is not in this folder.",
                f"None of its {len(series)} series has that Series Instance UID.",
                "Check series_uid, or leave it out when the folder holds one series.",
            )
        instances = sorted(series[chosen], key=_slice_order)
        self._loaded[chosen] = instances
        return instances

    def extract_metadata(self, series: Sequence[Dataset]) -> dict[str, Any]:
        """Return the series' descriptive attributes by DICOM keyword, and ``NumberOfInstances``.

        Attributes that the series does not carry are present with value None.
        """
        if not series:
            raise InputError(
                "The series is empty.", "It holds no instance.", "Load it with load_series first."
            )
        first = series[0]
        metadata: dict[str, Any] = {keyword: first.get(keyword) for keyword in _METADATA}
        metadata["NumberOfInstances"] = len(series)
        return metadata

    def to_numpy(self, series: Sequence[Dataset]) -> NDArray[Any]:
        """Return the voxels as ``[slice, row, column]`` in the modality's units (HU for CT).

        Geometry is checked as everywhere (``imaging.volume_from_series``): missing slices, two patients or
        two series are refused.
        """
        from digital_twins.imaging import volume_from_series

        return np.asarray(volume_from_series(list(series)).array)

    def create_structured_report(
        self,
        patient_dt: TwinLike,
        report_type: str = "digital_twin_analysis",
        content: Mapping[str, Any] | None = None,
        *,
        evidence: Sequence[Dataset] | None = None,
        created: datetime | None = None,
    ) -> Dataset:
        """Make a TID 1500 report of a twin: PRELIMINARY and UNVERIFIED until a person signs.

        Parameters
        ----------
        patient_dt
            The twin; its growth-rate interval is written when it knows one
            (``proliferation_rate_interval``).
        report_type
            ``"digital_twin_analysis"``.
        content
            ``tumor_volume_cm3`` (cm3), ``growth_rate`` (per day), ``predicted_response`` (category).
        evidence
            Source images; by default those of the twin's patient that this handler loaded.
        created
            Time of the document, timezone-aware; now by default.

        Raises
        ------
        InputError
            Unknown type or content key, no content, or no images of this patient.
        """
        if report_type != "digital_twin_analysis":
            raise InputError(
                "The report type is not known.",
                "Only 'digital_twin_analysis' can be made.",
                "Pass report_type='digital_twin_analysis'.",
            )
        images = list(evidence) if evidence is not None else self._images_of(patient_dt)
        from digital_twins.dicom._measurement_report import measurement_report

        groups = _groups(patient_dt, content or {})
        base = f"{patient_dt.twin_id}/{patient_dt.version}/handler/{sorted((content or {}).items())}"
        moment = created or datetime.now(tz=UTC)
        identity = DocumentIdentity(
            series_uid=_uid(f"{images[0].StudyInstanceUID}/{base}/series"),
            sop_uid=_uid(f"{images[0].StudyInstanceUID}/{base}/{moment.isoformat()}"),
            created=moment,
            series_number=9901,
            series_description="Digital twin analysis (preliminary)",
        )
        return measurement_report(images, groups, identity=identity, software=self._software)

    def store_to_pacs(self, sr: Dataset, endpoint: str) -> None:
        """Send a document to an archive.

        Parameters
        ----------
        sr
            The dataset; any SOP class.
        endpoint
            ``http(s)://host/dicom-web`` for STOW-RS (PS3.18 section 10.5), or ``dicom://AE@host:port`` for
            C-STORE (PS3.4 annex B).

        Raises
        ------
        InputError
            The endpoint is of neither form. What the network calls raise is passed on.
        ConflictError
            The archive answered that it did not store the document.
        """
        parts = urlsplit(endpoint)
        if parts.scheme in ("http", "https") and parts.hostname:
            from digital_twins.dicom import DicomWebClient

            with DicomWebClient(endpoint) as client:
                answer = client.store([sr])
            if answer.get("FailedSOPSequence"):
                raise ConflictError(
                    "The archive did not store the document.",
                    "Its answer names it among the failed instances.",
                    "Check that the archive holds the study and accepts the document's SOP class.",
                )
        elif parts.scheme == "dicom" and parts.hostname and parts.port and parts.username:
            from digital_twins.dicom import Remote, send

            send(Remote(parts.hostname, parts.port, called_ae=parts.username), [sr])
        else:
            raise InputError(
                "The archive's address cannot be used.",
                "It is neither http(s)://host/path nor dicom://AE@host:port.",
                "Give e.g. dicom://PACS@127.0.0.1:11112 or http://127.0.0.1:8042/dicom-web.",
            )

    def _images_of(self, twin: TwinLike) -> list[Dataset]:
        """Return the loaded series of the twin's patient, the one that the twin was built from first."""
        sources = set(getattr(getattr(twin, "image", None), "source_uids", ()))
        own = [
            series
            for series in self._loaded.values()
            if str(series[0].get("PatientID", "")) == str(twin.patient_id)
        ]
        built_from = [s for s in own if sources & {str(d.SOPInstanceUID) for d in s}]
        if not own:
            raise InputError(
                "The report has no images to refer to.",
                "This handler has loaded no series of the twin's patient.",
                "Call load_series on the patient's study first, or pass evidence=.",
            )
        return (built_from or own)[0]


def _groups(twin: TwinLike, content: Mapping[str, Any]) -> list[MeasurementGroup]:
    unknown = sorted(set(content) - set(_CONTENT_KEYS))
    if unknown or not content:
        raise InputError(
            "The report's content cannot be coded.",
            f"Unknown keys: {', '.join(unknown)}." if unknown else "It is empty.",
            f"Use any of: {', '.join(_CONTENT_KEYS)}.",
        )
    groups = []
    if "tumor_volume_cm3" in content:
        volume = Quantity(float(content["tumor_volume_cm3"]), "cm3")
        groups.append(_group(twin, "Lesion 1", quantities=((VOLUME, volume),)))
    if "growth_rate" in content:
        low, high = getattr(twin, "proliferation_rate_interval", (None, None))
        rate = Quantity(float(content["growth_rate"]), "/d", low, high)
        status = ((DATA_STATUS, MODEL_ESTIMATE),)
        groups.append(
            _group(twin, "MODEL ESTIMATE: growth", quantities=((GROWTH_RATE, rate),), evaluations=status)
        )
    if "predicted_response" in content:
        response = response_code(str(content["predicted_response"]))
        evaluations = ((DATA_STATUS, NOT_ACQUIRED), (PREDICTED_RESPONSE, response))
        groups.append(_group(twin, "PREDICTED, NOT ACQUIRED: response", evaluations=evaluations))
    return groups


def _group(
    twin: TwinLike,
    label: str,
    *,
    quantities: tuple[tuple[Any, Quantity], ...] = (),
    evaluations: tuple[tuple[Any, Any], ...] = (),
) -> MeasurementGroup:
    from digital_twins.dicom._measurement_report import MeasurementGroup

    return MeasurementGroup(label, _uid(f"{twin.twin_id}/{label}"), quantities, evaluations)


def _uid(name: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, name).int}"


def _read_all(path: Path) -> list[Dataset]:
    """Return every DICOM image under a path; what is not DICOM, or has no pixels, is passed over."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found: list[Dataset] = []
    for file in files:
        try:
            dataset = dcmread(file)
        except InvalidDicomError:
            continue
        if "PixelData" in dataset:
            found.append(dataset)
    if not found:
        raise NotFoundError(
            "No DICOM images were found.",
            "The path does not exist or holds no DICOM file with pixels.",
            "Give the folder of a series, or one of its files.",
        )
    return found


def _slice_order(dataset: Dataset) -> tuple[float, int]:
    """Return the position along the slice normal (PS3.3 C.7.6.2.1.1), then the instance number."""
    number = int(dataset.get("InstanceNumber") or 0)
    orientation = dataset.get("ImageOrientationPatient")
    position = dataset.get("ImagePositionPatient")
    if not orientation or not position:
        return 0.0, number
    cosines = np.array(orientation, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    return float(normal @ np.array(position, dtype=float)), number
