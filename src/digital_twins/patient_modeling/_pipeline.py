"""From a patient's images to a twin."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins import __version__
from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.calibration import Belief
from digital_twins.imaging import Mask, Volume, bounding_box, crop, load_mask, load_volume
from digital_twins.models import solver_fallback
from digital_twins.patient_modeling._calibrate import volume_estimate
from digital_twins.patient_modeling._geometry import MARGIN_MM, model_geometry
from digital_twins.patient_modeling._priors import (
    BASELINE_SCALE,
    growth_priors,
    replaced_priors,
    tumour_family,
)
from digital_twins.patient_modeling._simulator import Simulator
from digital_twins.patient_modeling._snapshot import Provenance, Snapshot
from digital_twins.patient_modeling._tissue import Tissue, tissue_on_grid
from digital_twins.patient_modeling._twin import PatientTwin
from digital_twins.patient_modeling._volume_noise import volume_log_sd
from digital_twins.units import body_surface_area_m2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digital_twins.calibration import Prior

MODEL_TYPES = ("reaction_diffusion",)
SOLVERS = ("cpu", "gpu_parallel")
_NAMESPACE = uuid.UUID("6f0d3b4e-9a52-5c1f-8d7a-3a1f6f3c2b10")
_log = logging.getLogger(__name__)


class TumorTwinPipeline:
    """Builds patient twins.

    Parameters
    ----------
    model_type
        ``"reaction_diffusion"``: proliferation and invasion with treatment, see
        :class:`digital_twins.models.ReactionDiffusionModel`.
    solver
        ``"cpu"``, or ``"gpu_parallel"``: the same scheme in JAX on an accelerator (extra ``gpu``); without
        one the twin is computed on the CPU, and its provenance says so and why.
    priors
        Priors that take the place of those of the same name (``diffusion_mm2_per_day``,
        ``proliferation_per_day``, ...); the others stay those of the tumour's family.

    Raises
    ------
    InputError
        For any other model or solver, or a prior of an unknown name.
    """

    def __init__(
        self, model_type: str = "reaction_diffusion", solver: str = "cpu", *, priors: Sequence[Prior] = ()
    ) -> None:
        _refuse_unknown("model", model_type, MODEL_TYPES)
        _refuse_unknown("solver", solver, SOLVERS)
        self.model_type = model_type
        self.solver = solver
        self.priors = tuple(priors)

    def create_twin(
        self,
        patient_id: str,
        imaging_data: Any,
        tumor_segmentation: Any,
        *,
        clinical_data: Mapping[str, Any] | None = None,
        domain: Any = None,
        tissue: Tissue | None = None,
        baseline: datetime | None = None,
        seed: int = 0,
    ) -> PatientTwin:
        """Make a patient's twin from baseline images and the segmentation of the tumour.

        One lesion mask and one domain mask suffice, of any organ; images and tissue maps are optional.

        The twin's baseline density has exactly the segmented volume above the detection threshold; its
        parameters are priors until :meth:`PatientTwin.calibrate`. Same inputs and seed, same ``twin_id``.

        Parameters
        ----------
        patient_id
            Medical record number; images that state another DICOM PatientID are refused.
        imaging_data
            One image or a mapping of names to images, each as for
            :func:`digital_twins.imaging.load_volume`; or None. The first image that the segmentation fits
            gives the domain.
        tumor_segmentation
            As for :func:`digital_twins.imaging.load_mask`.
        clinical_data
            Optional facts; ``tumor_type``/``diagnosis`` choose the priors, ``height_cm`` and ``weight_kg``
            (or ``body_surface_area_m2``) serve doses per square metre. Kept with the twin.
        domain
            Mask of the tissue that the tumour can invade. Derived from the image when not given: tissue
            above air (CT) or above the background (MR), connected to the lesion, within 25 mm of it.
        tissue
            How well cells move through it: labels of tissues, a map of relative diffusivity, or diffusion
            tensors (:class:`Tissue`). Uniform when not given.
        baseline
            Time of day 0, timezone-aware; the acquisition time of image or segmentation when not given.

        Raises
        ------
        InputError
            When an input cannot be used or inputs do not belong together.
        """
        _refuse_naive(baseline)
        images = {name: load_volume(source) for name, source in _named(imaging_data).items()}
        lesion = load_mask(tumor_segmentation)
        _refuse_other_patient(patient_id, (*images.values(), lesion))
        image = _matching(images, lesion)
        given = None if domain is None else load_mask(domain)
        geometry = model_geometry(lesion, image, given)
        on_grid = tissue_on_grid(tissue, geometry)
        simulator = Simulator(
            on_grid.domain,
            geometry.distance_mm,
            lesion.volume_cm3,
            diffusivity=on_grid.diffusivity,
            tensor=on_grid.tensor,
            solver=self.solver,
        )
        clinical = _with_body_surface(dict(clinical_data or {}))
        family = tumour_family(clinical)
        inputs = _input_digests(images, lesion, given) | on_grid.inputs
        notes = [f"domain: {geometry.domain_rule}", f"priors: {family}", *on_grid.notes, *self._solver_note()]
        provenance = Provenance(inputs, __version__, seed, None, tuple(notes))
        first = _first_version(lesion, growth_priors(family, clinical), self.priors, provenance=provenance)
        return PatientTwin(
            _twin_id(patient_id, seed, inputs),
            patient_id,
            baseline=baseline or (image.acquired if image is not None else None) or lesion.acquired,
            image=None if image is None else _around(image, lesion),
            simulator=simulator,
            clinical_data=clinical,
            history=(first,),
        )

    def _solver_note(self) -> list[str]:
        if self.solver == "cpu":
            return []
        reason = solver_fallback(self.solver)
        if reason is None:
            return ["solver: gpu_parallel, the scheme of the CPU in JAX on an accelerator"]
        _log.info("twin.solver_fallback")
        return [f"solver: gpu_parallel was asked for; computed on the CPU with the same scheme: {reason}"]


def _refuse_naive(baseline: datetime | None) -> None:
    if baseline is not None and baseline.tzinfo is None:
        raise InputError(
            "The baseline has no timezone.",
            "A wall-clock time without one cannot be compared with acquisition times.",
            "Pass datetime(..., tzinfo=UTC).",
        )


def _input_digests(images: Mapping[str, Volume], lesion: Mask, domain: Mask | None) -> dict[str, str]:
    """Name of each input to its digest, as the provenance keeps them."""
    found = {f"image:{name}": volume.digest() for name, volume in images.items()}
    found["tumor_segmentation"] = lesion.digest()
    if domain is not None:
        found["domain"] = domain.digest()
    return found


def _twin_id(patient_id: str, seed: int, inputs: Mapping[str, str]) -> str:
    """Return the same name for the same inputs and seed."""
    name = "/".join([patient_id, str(seed), *(f"{key}={inputs[key]}" for key in sorted(inputs))])
    return str(uuid.uuid5(_NAMESPACE, name))


def _first_version(
    lesion: Mask, priors: Sequence[Prior], own: Sequence[Prior], *, provenance: Provenance
) -> Snapshot:
    """Return what is believed before any follow-up; ``own`` priors take the place of their namesakes."""
    noise = float(volume_log_sd(lesion.volume_cm3))
    sized = [replace(prior, log_sd=noise) if prior.name == BASELINE_SCALE else prior for prior in priors]
    return Snapshot(
        version=1,
        created_utc=datetime.now(tz=UTC),
        belief=Belief.from_priors(replaced_priors(sized, own)),
        visits=(),
        treatment_history=(),
        provenance=provenance,
        current_volume_cm3=volume_estimate(lesion.volume_cm3, noise, source="segmented"),
    )


def _refuse_unknown(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise InputError(
            f"The {what} '{given}' is not known.",
            f"This version has: {', '.join(known)}.",
            f"Pass {what + '_type' if what == 'model' else what}={known[0]!r}.",
        )


def _named(imaging_data: Any) -> dict[str, Any]:
    if imaging_data is None:
        return {}
    if isinstance(imaging_data, Mapping):
        return {str(name): source for name, source in imaging_data.items()}
    return {"image": imaging_data}


def _refuse_other_patient(patient_id: str, volumes: Sequence[Volume]) -> None:
    if not patient_id or not patient_id.strip():
        raise InputError(
            "The twin has no patient.", "The patient identifier is empty.", "Pass the medical record number."
        )
    if any(volume.patient_id and volume.patient_id != patient_id for volume in volumes):
        raise InputError(
            "An image belongs to another patient.",
            "Its DICOM PatientID differs from the patient identifier given.",
            "Use images and record of the same patient.",
        )


def _matching(images: Mapping[str, Volume], lesion: Mask) -> Volume | None:
    """Return the first image that the segmentation fits; raise the first one's reason when none does."""
    first: DigitalTwinError | None = None
    for volume in images.values():
        try:
            load_mask(lesion, like=volume)
        except InputError as error:
            first = first or error
            continue
        return volume
    if first is not None:
        raise first
    return None


def _around(image: Volume, lesion: Mask) -> Volume:
    """Crop the image to the model's surroundings, at its own resolution."""
    placed = load_mask(lesion, like=image)
    return crop(image, bounding_box(placed, MARGIN_MM))


def _with_body_surface(clinical: dict[str, Any]) -> dict[str, Any]:
    height, weight = clinical.get("height_cm"), clinical.get("weight_kg")
    if "body_surface_area_m2" not in clinical and height and weight:
        clinical["body_surface_area_m2"] = body_surface_area_m2(float(weight), float(height))
    return clinical
