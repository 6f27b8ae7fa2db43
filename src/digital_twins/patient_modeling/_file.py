"""A twin as bytes: a zip of one JSON document, numpy arrays and what explains them, read without pickle."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError, NotFoundError
from digital_twins.calibration import Belief, Direction, Estimate, Identifiability, Particles, Prior
from digital_twins.imaging import Mask, Volume
from digital_twins.patient_modeling._file_about import README, SCHEMA, SUMS, TEXT, checksums, schema_text
from digital_twins.patient_modeling._scans import Visit
from digital_twins.patient_modeling._simulator import Simulator
from digital_twins.patient_modeling._snapshot import (
    CalibrationResult,
    Provenance,
    SamplingReport,
    Snapshot,
)
from digital_twins.patient_modeling._visit_images import VisitImage
from digital_twins.records import Code, DrugDose, Fraction, RadiationEffect, Treatment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from digital_twins.patient_modeling._twin import PatientTwin

Array = NDArray[Any]
T = TypeVar("T", bound="PatientTwin")

FORMAT = "digital-twins/patient-twin"
FORMAT_VERSION = 2
"""2 added samples of the posterior, images of visits, the report on identifiability, tissue, explanations and
checksums; 1 is still read."""
_WITH_SUMS = 2
_LARGEST_BYTES = 1 << 30
_MOST_MEMBERS = 2000
_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_bytes(twin: PatientTwin) -> bytes:
    """Return the twin with all its versions as one zip file; the same twin gives the same bytes."""
    simulator = twin._simulator
    arrays: dict[str, Array] = {
        "domain": np.packbits(simulator.domain.array),
        "distance_mm": simulator.distance_mm,
    }
    for name in ("diffusivity", "tensor"):
        if getattr(simulator, name) is not None:
            arrays[name] = getattr(simulator, name)
    if twin.image is not None:
        arrays["image"] = twin.image.array
    visits: dict[str, dict[str, Any]] = {}
    for snapshot in twin.history:
        for visit in snapshot.visits:
            visits[visit.digest] = {
                "day": visit.day,
                "volume_cm3": visit.volume_cm3,
                "digest": visit.digest,
                "day_from": visit.day_from,
                "images": [{"kind": i.kind, "digest": i.digest, "fwhm_mm": i.fwhm_mm} for i in visit.images],
            }
            arrays[f"visit-{visit.digest}"] = np.packbits(visit.mask)
            arrays |= {f"visit-{visit.digest}-{i.kind}": i.values for i in visit.images}
        if (cloud := snapshot.belief.particles) is not None:
            arrays[f"particles-{snapshot.version}"] = cloud.logs
            arrays[f"weights-{snapshot.version}"] = cloud.weights
        arrays |= _dose_maps(snapshot)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "twin_id": twin.twin_id,
        "patient_id": twin.patient_id,
        "baseline": _iso(twin.baseline),
        "clinical_data": dict(twin.clinical_data),
        "lesion_volume_cm3": simulator.lesion_volume_cm3,
        "solver": simulator.solver,
        "domain": _geometry(simulator.domain),
        "image": None if twin.image is None else _geometry(twin.image),
        "visits": visits,
        "history": [_snapshot_document(snapshot) for snapshot in twin.history],
    }
    text = json.dumps(document, default=str, sort_keys=True, allow_nan=False)
    members = {README: TEXT.encode(), SCHEMA: schema_text(), "twin.json": text.encode()}
    for name in sorted(arrays):
        member = io.BytesIO()
        np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
        members[f"{name}.npy"] = member.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            _add(archive, name, content)
        _add(archive, SUMS, checksums(members))
    return buffer.getvalue()


def from_bytes(data: bytes, cls: type[T]) -> T:
    """Read what :func:`to_bytes` wrote.

    Raises
    ------
    InputError
        When it is not a twin, is damaged, comes from a newer version, or unpacks to more than 1 GiB.
    """
    try:
        members = _members(data)
        document = json.loads(members["twin.json"])
        if document["format"] != FORMAT or document["format_version"] > FORMAT_VERSION:
            raise _unreadable("It was written by another program or a newer version.")
        sums = members.pop(SUMS, None)
        if document["format_version"] >= _WITH_SUMS and sums != checksums(members):
            raise _unreadable("Its checksums do not fit its content: it was damaged or changed.")
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            for name, content in members.items()
            if name.endswith(".npy")
        }
        return _assemble(document, arrays, cls)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(f"Its content cannot be read ({type(error).__name__}).") from error


def read_twin_file(path: Path) -> bytes:
    """Return the bytes of a twin file of at most 1 GiB."""
    if not path.is_file():
        raise NotFoundError(
            "The twin file does not exist.",
            "Nothing lies at the path given.",
            "Check the path of the .twin file.",
        )
    if path.stat().st_size > _LARGEST_BYTES:
        raise _unreadable("It is larger than 1 GiB.")
    return path.read_bytes()


def _unreadable(why: str) -> InputError:
    return InputError("The file is not a readable twin.", why, "Use a file that PatientTwin.save wrote.")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 1)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS or sum(info.file_size for info in infos) > _LARGEST_BYTES:
            raise _unreadable("It unpacks to more than 1 GiB.")
        members = {}
        for info in infos:
            with archive.open(info) as member:
                content = member.read(info.file_size + 1)
            if len(content) != info.file_size:
                raise _unreadable("A part is longer than it says.")
            members[info.filename] = content
        return members


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "shape": list(volume.shape),
        "affine": volume.affine.tolist(),
        "frame_of_reference_uid": volume.frame_of_reference_uid,
        "modality": volume.modality,
        "acquired": _iso(volume.acquired),
        "source_uids": list(volume.source_uids),
        "patient_id": volume.patient_id,
        "meaning": asdict(volume.meaning) if isinstance(volume, Mask) else None,
    }


def _place(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "frame_of_reference_uid": document["frame_of_reference_uid"],
        "modality": document["modality"],
        "acquired": _moment(document["acquired"]),
        "source_uids": tuple(document["source_uids"]),
        "patient_id": document["patient_id"],
    }


def _unpacked(bits: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


def _snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "version": snapshot.version,
        "created_utc": snapshot.created_utc.isoformat(),
        "priors": [asdict(prior) for prior in snapshot.belief.priors],
        "log_mean": snapshot.belief.log_mean.tolist(),
        "log_covariance": snapshot.belief.log_covariance.tolist(),
        "calibrated": sorted(snapshot.belief.calibrated),
        "sampled": None if snapshot.belief.particles is None else list(snapshot.belief.particles.names),
        "visits": [visit.digest for visit in snapshot.visits],
        "treatment_history": [_treatment_document(t) for t in snapshot.treatment_history],
        "provenance": asdict(snapshot.provenance),
        "current_volume_cm3": asdict(snapshot.current_volume_cm3),
        "calibration": None if snapshot.calibration is None else asdict(snapshot.calibration),
    }


def _dose_maps(snapshot: Snapshot) -> dict[str, Array]:
    maps = [t.dose_map for t in snapshot.treatment_history if t.dose_map is not None]
    return {f"dose-{each.digest()}": each.array for each in maps}


def _treatment_document(treatment: Treatment) -> dict[str, Any]:
    named = {f.name: getattr(treatment, f.name) for f in fields(treatment)}
    named["doses"] = [asdict(dose) for dose in treatment.doses]
    named["fractions"] = [asdict(fraction) for fraction in treatment.fractions]
    named["start"] = _iso(treatment.start)
    named["as_given"] = dict(treatment.as_given)
    named["radiation"] = None if treatment.radiation is None else treatment.radiation.stated()
    named["dose_map"] = None if treatment.dose_map is None else treatment.dose_map.digest()
    return named


def _treatment(document: dict[str, Any], doses: Mapping[str, Volume]) -> Treatment:
    effect, dose = document.get("radiation"), document.get("dose_map")
    return Treatment(
        **{
            **document,
            "radiation": None if effect is None else RadiationEffect(**effect),
            "dose_map": None if dose is None else doses[dose],
            "doses": tuple(DrugDose(**dose) for dose in document["doses"]),
            "fractions": tuple(Fraction(**fraction) for fraction in document["fractions"]),
            "start": _moment(document["start"]),
            "assumptions": tuple(document["assumptions"]),
        }
    )


def _calibration(document: dict[str, Any] | None) -> CalibrationResult | None:
    if document is None:
        return None
    estimates = {name: Estimate(**estimate) for name, estimate in document["estimates"].items()}
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    plain["estimates"] = estimates
    if plain.get("information") is not None:
        plain["information"] = _information(plain["information"])
    if plain.get("sampling") is not None:
        plain["sampling"] = SamplingReport(**plain["sampling"])
    return CalibrationResult(**plain)


def _information(document: Mapping[str, Any]) -> Identifiability:
    return Identifiability(
        variance_reduction=document["variance_reduction"],
        directions=tuple(Direction(**each) for each in document["directions"]),
        confounded=tuple((str(a), str(b), float(value)) for a, b, value in document["confounded"]),
    )


def _particles(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> Particles | None:
    if document.get("sampled") is None:
        return None
    version = document["version"]
    return Particles(
        tuple(document["sampled"]),
        np.asarray(arrays[f"particles-{version}"], dtype=np.float64),
        np.asarray(arrays[f"weights-{version}"], dtype=np.float64),
    )


def _visit(about: Mapping[str, Any], arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Visit:
    name = f"visit-{about['digest']}"
    images = tuple(
        VisitImage(values=np.asarray(arrays[f"{name}-{each['kind']}"], dtype=np.float32), **each)
        for each in about.get("images", ())
    )
    return Visit(**{**about, "mask": _unpacked(arrays[name], shape), "images": images})


def _snapshot(
    document: Mapping[str, Any],
    visits: Mapping[str, Visit],
    arrays: Mapping[str, Array],
    doses: Mapping[str, Volume],
) -> Snapshot:
    belief = Belief(
        tuple(Prior(**prior) for prior in document["priors"]),
        np.array(document["log_mean"], dtype=np.float64),
        np.array(document["log_covariance"], dtype=np.float64),
        frozenset(document["calibrated"]),
        _particles(document, arrays),
    )
    provenance = {**document["provenance"], "notes": tuple(document["provenance"]["notes"])}
    return Snapshot(
        version=document["version"],
        created_utc=datetime.fromisoformat(document["created_utc"]),
        belief=belief,
        visits=tuple(visits[digest] for digest in document["visits"]),
        treatment_history=tuple(_treatment(t, doses) for t in document["treatment_history"]),
        provenance=Provenance(**provenance),
        current_volume_cm3=Estimate(**document["current_volume_cm3"]),
        calibration=_calibration(document["calibration"]),
    )


def _assemble(document: Mapping[str, Any], arrays: Mapping[str, Array], cls: type[T]) -> T:
    place = document["domain"]
    shape = tuple(place["shape"])
    domain = Mask(
        _unpacked(arrays["domain"], shape),
        np.array(place["affine"]),
        **_place(place),
        meaning=Code(**place["meaning"]),
    )
    image = None
    if document["image"] is not None:
        image = Volume(arrays["image"], np.array(document["image"]["affine"]), **_place(document["image"]))
    visits = {digest: _visit(about, arrays, shape) for digest, about in document["visits"].items()}
    doses = {
        name.removeprefix("dose-"): Volume(
            array,
            domain.affine,
            frame_of_reference_uid=domain.frame_of_reference_uid,
            patient_id=domain.patient_id,
        )
        for name, array in arrays.items()
        if name.startswith("dose-")
    }
    return cls(
        document["twin_id"],
        document["patient_id"],
        baseline=_moment(document["baseline"]),
        image=image,
        simulator=Simulator(
            domain,
            arrays["distance_mm"],
            document["lesion_volume_cm3"],
            solver=document.get("solver", "cpu"),  # twins of the first version have none
            diffusivity=arrays.get("diffusivity"),
            tensor=arrays.get("tensor"),
        ),
        clinical_data=document["clinical_data"],
        history=[_snapshot(snapshot, visits, arrays, doses) for snapshot in document["history"]],
    )
