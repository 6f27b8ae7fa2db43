"""From a twin and its responses to what the web page shows: one JSON view and its image files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.imaging import load_mask, to_nifti_bytes
from digital_twins.server._models import (
    ImageInfo,
    Interval,
    ObservedPoint,
    Parameter,
    Provenance,
    Scenario,
    TwinDetail,
    Version,
)
from digital_twins.server._nifti import pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from digital_twins.imaging import Mask, Volume
    from digital_twins.patient_modeling import PatientTwin
    from digital_twins.server._models import Document
    from digital_twins.treatment_simulation import Response

_LABELS = {
    "diffusion_mm2_per_day": "Cell motility",
    "proliferation_per_day": "Proliferation rate",
    "baseline_volume_scale": "True over segmented baseline volume",
    "alpha_per_gy": "Radiosensitivity alpha",
    "alpha_beta_gy": "alpha/beta ratio",
    "clearance_half_life_days": "Half-life of dead cells",
    "drug_sensitivity": "Drug sensitivity",
}
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_CRITERIA = {"recist_1_1": "RECIST 1.1", "rano": "RANO", "rano_2_0": "RANO 2.0 (volume)"}
_CT_WINDOW = (-1000.0, 400.0)


def twin_view(
    twin: PatientTwin,
    responses: Sequence[Response],
    *,
    patient_key: str,
    observed: Sequence[ObservedPoint],
    labels: Sequence[str],
    notes: Sequence[str],
    documents: Sequence[Document],
) -> TwinDetail:
    """Return the page's view of a twin version.

    Parameters
    ----------
    observed
        Baseline and follow-up volumes, simulated ones marked.
    labels
        What the page shows prominently, e.g. ``"SIMULATED FOLLOW-UP"``.
    notes
        Choices and assumptions of build and simulation, in words.
    """
    volume = twin.current_volume
    return TwinDetail(
        twin_id=twin.twin_id,
        patient_key=patient_key,
        version=twin.version,
        created_utc=twin.created_utc,
        baseline_utc=twin.baseline,
        model="reaction-diffusion, logistic growth",
        simulated=any(point.simulated for point in observed),
        labels=list(labels),
        current_volume=Interval(value=volume.value, low=volume.low, high=volume.high, unit="cm3"),
        current_day=twin.origin_day,
        parameters=_parameters(twin),
        observed=list(observed),
        scenarios=[_scenario(index, response) for index, response in enumerate(responses)],
        versions=_versions(twin),
        documents=list(documents),
        image=_image_info(twin),
        provenance=Provenance(
            software_version=twin.provenance.software_version,
            seed=twin.provenance.seed,
            input_hash=twin.content_digest,
            model="reaction_diffusion",
        ),
        notes=list(notes),
    )


def scenario_key(index: int, response: Response) -> str:
    """Return the name of a scenario in addresses: its place and kind, e.g. ``"1-radiation"``."""
    return f"{index}-{response.treatment.kind}"


def image_files(twin: PatientTwin, lesion: Mask, responses: Sequence[Response]) -> dict[str, bytes]:
    """Return the NIfTI files of the viewer: image, measured lesion on its grid, and predicted tumours."""
    image = twin.image
    if image is None:
        return {}
    files = {"image": to_nifti_bytes(image)}
    outline = load_mask(lesion, like=image)
    files["lesion"] = _nifti(outline, outline.array.astype(np.uint8))
    for index, response in enumerate(responses):
        prediction = response.prediction
        frames = [prediction.mask_at(float(day)) for day in prediction.days]
        stacked = np.stack([frame.array for frame in frames]).astype(np.uint8)
        files[f"predicted/{scenario_key(index, response)}"] = _nifti(frames[0], stacked)
    return files


def _nifti(grid: Volume | Mask, array: NDArray[np.uint8]) -> bytes:
    """Pack [(time,) slice, row, column] on the grid's LPS affine as [x, y, z(, t)] in RAS."""
    order = (2, 1, 0) if array.ndim == 3 else (3, 2, 1, 0)
    affine = _FLIP @ np.asarray(grid.affine)[:, [2, 1, 0, 3]]
    return pack(np.ascontiguousarray(array.transpose(order)), affine)


def _parameters(twin: PatientTwin) -> list[Parameter]:
    found = []
    for name, e in twin.parameters.items():
        stem, _, drug = name.partition(":")
        label = _LABELS.get(stem, stem.replace("_", " "))
        found.append(
            Parameter(
                name=name,
                label=f"{label}, {drug}" if drug else label,
                value=e.value,
                low=None if e.fixed else e.low,
                high=None if e.fixed else e.high,
                standard_deviation=None if e.fixed else e.standard_deviation,
                unit=e.unit,
                fixed=e.fixed,
                source=e.source if e.source == "calibrated" else f"prior: {e.source}",
            )
        )
    return found


def _scenario(index: int, response: Response) -> Scenario:
    p = response.prediction
    days = [float(day) for day in p.days]
    return Scenario(
        key=scenario_key(index, response),
        label=response.label[:1].upper() + response.label[1:],
        kind=response.treatment.kind,
        planned=response.treatment.kind != "observation",
        interval=p.interval,
        days=days,
        volume_cm3=p.volume_cm3.tolist(),
        low_cm3=p.low_cm3.tolist(),
        high_cm3=p.high_cm3.tolist(),
        mask_days=days,
        volume_change_percent=Interval(
            value=response.volume_change_percent,
            low=response.volume_change_low,
            high=response.volume_change_high,
            unit="%",
            level=response.interval,
        ),
        response_category=response.response_category.value,
        criterion=_CRITERIA[response.criteria],
        nadir_day=response.nadir_day,
        nadir_volume_cm3=response.nadir_volume_cm3,
        assumptions=list(response.assumptions),
    )


def _versions(twin: PatientTwin) -> list[Version]:
    return [
        Version(
            version=s.version,
            created_utc=s.created_utc,
            reason=f"calibrated to day {s.origin_day:g}" if s.visits else "built from the baseline",
            scans=1 + len(s.visits),
        )
        for s in reversed(twin.history)
    ]


def _image_info(twin: PatientTwin) -> ImageInfo:
    centre = twin.lesion.centroid_mm * np.array([-1.0, -1.0, 1.0])
    image = twin.image
    low, high = (0.0, 1.0) if image is None else np.percentile(image.array, [1.0, 99.0])
    if image is not None and image.modality == "CT":
        low, high = max(float(low), _CT_WINDOW[0]), min(float(high), _CT_WINDOW[1])
    return ImageInfo(
        modality=(image.modality if image is not None else None) or "image",
        window_low=float(low),
        window_high=max(float(high), float(low) + 1.0),
        lesion_centroid_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
    )
