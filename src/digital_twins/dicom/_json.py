"""DICOM JSON model of stored objects (PS3.18 annex F), built once an object and kept compressed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins._logging import get_logger
from digital_twins.dicom._dataset_file import load
from digital_twins.dicom._json_model import json_model
from digital_twins.dicom._text import quiet_pydicom
from digital_twins.storage import SEALED, seal_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._store import DicomStore
    from digital_twins.dicom._stored import Instance
    from digital_twins.storage import Database

BASE_MARK = b"@@dicomweb-base@@"
"""Stands for the DICOMweb root in kept JSON; replaced by the real one in each answer."""
_log = get_logger(__name__)
_BULK_BYTES = 4096
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_ZLIB_LEVEL = 1
_PAGE = 100


def instance_url(instance: Instance) -> str:
    """Return the WADO-RS path of an instance below the DICOMweb root, with the mark for the root."""
    return (
        f"{BASE_MARK.decode()}/studies/{instance.study_uid}/series/{instance.series_uid}"
        f"/instances/{instance.sop_uid}"
    )


def build_json(store: DicomStore, instance: Instance) -> bytes:
    """Return the DICOM JSON object of a stored instance; long binary values become BulkDataURI."""
    url = instance_url(instance)
    bulk: dict[str, Any] = {}
    try:
        with quiet_pydicom():
            dataset = load(store.file(instance), stop_before_pixels=True)
            if str(dataset.get("PatientID") or "") != instance.patient_id:
                _as_filed(store, instance, dataset)
            bulk = _take_bulk(dataset, url)
            model = json_model(dataset)
    except Exception as error:  # noqa: BLE001  (edge: one odd foreign object must not hide its study)
        _log.warning("dicom.json.failed", error=type(error).__name__)
        model = {
            "0020000D": {"vr": "UI", "Value": [instance.study_uid]},
            "0020000E": {"vr": "UI", "Value": [instance.series_uid]},
            "00080016": {"vr": "UI", "Value": [instance.sop_class_uid]},
            "00080018": {"vr": "UI", "Value": [instance.sop_uid]},
        }
    model = {tag: value for tag, value in model.items() if not tag.endswith("0000")}
    model.update(bulk)
    if instance.pixel_length is not None or instance.pixel_offset is not None or instance.rows:
        tag, vr = _pixel_element(instance)
        model[tag] = {"vr": vr, "BulkDataURI": f"{url}/bulkdata/{tag}"}
    model["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax]}
    return orjson.dumps(model, option=orjson.OPT_SORT_KEYS)


def _as_filed(store: DicomStore, instance: Instance, dataset: Dataset) -> None:
    """Name the patient under whom a merge has filed the object; others keep what they say."""
    from digital_twins.dicom._survivor import survivor

    own = str(dataset.get("PatientID") or ""), str(dataset.get("IssuerOfPatientID") or "")
    with store.database.read() as connection:
        if survivor(connection.cursor(), *own)[0] != instance.patient_id:
            return
        rows: list[Any] = connection.execute(
            "SELECT p.issuer, p.name, p.birth_date, p.sex FROM dicom_patient p JOIN dicom_study s"
            " ON s.patient = p.id WHERE s.study_uid = ?",
            (instance.study_uid,),
        ).fetchall()
    dataset.PatientID = instance.patient_id
    dataset.SpecificCharacterSet = "ISO_IR 192"  # the index keeps Unicode
    for issuer, name, birth_date, sex in rows:
        dataset.IssuerOfPatientID, dataset.PatientName = issuer, name
        dataset.PatientBirthDate, dataset.PatientSex = birth_date, sex


def _pixel_element(instance: Instance) -> tuple[str, str]:
    """Return tag and VR of the pixels: parametric maps may hold floating point numbers (PS3.3 A.75)."""
    if instance.sop_class_uid == _PARAMETRIC_MAP and instance.bits_allocated > 16:
        return ("7FE00008", "OF") if instance.bits_allocated == 32 else ("7FE00009", "OD")
    native = instance.bits_allocated > 8 and instance.pixel_length is not None
    return "7FE00010", "OW" if native else "OB"


def _take_bulk(dataset: Dataset, url: str) -> dict[str, Any]:
    """Remove long binary values of the top level and return their JSON."""
    bulk: dict[str, Any] = {}
    for element in [*dataset]:
        if element.VR in _BINARY and isinstance(element.value, bytes) and len(element.value) > _BULK_BYTES:
            tag = f"{int(element.tag):08X}"
            bulk[tag] = {"vr": element.VR, "BulkDataURI": f"{url}/bulkdata/{tag}"}
            del dataset[element.tag]
    return bulk


def metadata(store: DicomStore, instances: Sequence[Instance]) -> list[bytes]:
    """Return the DICOM JSON of each instance, building and keeping what is missing."""
    kept: dict[int, bytes] = {}
    with store.database.read() as connection:
        for start in range(0, len(instances), _PAGE):
            ids = [instance.id for instance in instances[start : start + _PAGE]]
            rows: list[Any] = connection.execute(
                f"SELECT instance, json FROM dicom_json WHERE instance IN ({','.join('?' * len(ids))})",  # noqa: S608  (marks only)  # nosec B608
                ids,
            ).fetchall()
            kept.update(rows)
    missing = [instance for instance in instances if instance.id not in kept]
    for start in range(0, len(missing), _PAGE):
        kept.update(_build(store, missing[start : start + _PAGE])[0])
    return [zlib.decompress(kept[instance.id]) for instance in instances]


def _build(store: DicomStore, instances: Sequence[Instance]) -> tuple[dict[int, bytes], Future[None]]:
    built = {i.id: zlib.compress(build_json(store, i), _ZLIB_LEVEL) for i in instances}

    def keep(cursor: apsw.Cursor) -> None:
        rows = [
            (i.id, seal_for(cursor, built[i.id], lambda owner=i.patient_id: owner), i.digest)  # type: ignore[misc]
            for i in instances
        ]
        # An object may have been replaced or removed while its JSON was built, and its number given anew.
        cursor.executemany(
            "INSERT OR IGNORE INTO dicom_json (instance, json)"
            " SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM dicom_instance WHERE id = ?1 AND blob = ?3)",
            rows,
        )

    return built, store.database.submit(keep)


def build_pending(store: DicomStore, *, limit: int = 500) -> int:
    """Build the JSON of at most ``limit`` objects that have none yet and return how many were built.

    For a background worker, once a study is stable: the first viewer then waits for nothing.
    """
    from digital_twins.dicom._store import select_instances

    missing = select_instances(
        store, " WHERE NOT EXISTS (SELECT 1 FROM dicom_json j WHERE j.instance = i.id) LIMIT ?", (limit,)
    )
    for start in range(0, len(missing), _PAGE):
        _build(store, missing[start : start + _PAGE])[1].result()
    return len(missing)


def drop_clear_json(database: Database) -> int:
    """Remove kept JSON that lies in clear in an encrypted store, and return how much; it is built anew."""
    sql = f"DELETE FROM dicom_json WHERE substr(json, 1, {len(SEALED)}) <> ? RETURNING instance"  # noqa: S608  (a number of ours)  # nosec B608
    return database.write(lambda cursor: len(cursor.execute(sql, (SEALED,)).fetchall()))
