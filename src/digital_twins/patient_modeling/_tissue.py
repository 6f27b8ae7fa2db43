"""How well tumour cells move through the tissue: labels, maps and diffusion tensors on the model grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from digital_twins._errors import InputError
from digital_twins.imaging import Mask, Volume, as_mask, load_volume, resample
from digital_twins.models import TensorDomain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.patient_modeling._geometry import Geometry

FloatArray = NDArray[np.float64]

TensorOrder = Literal["mrtrix", "lower_triangular"]
_ORDERS: dict[str, tuple[tuple[int, int], ...]] = {
    "mrtrix": ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)),
    "lower_triangular": ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)),
}
_FLATTEST = 0.01
_LEAST_COVERED = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class TensorField:
    """Diffusion tensors on an image grid.

    Attributes
    ----------
    tensors
        Array [slice, row, column, 3, 3] in patient LPS axes (x to the left, y to the back, z to the head),
        in any one unit: only ratios are used. All zeros mark a voxel without a tensor.
    grid
        A volume on whose grid the tensors lie; its voxels are not used.
    """

    tensors: NDArray[Any]
    grid: Volume

    def __post_init__(self) -> None:
        usable = self.tensors.shape == (*self.grid.shape, 3, 3) and bool(np.isfinite(self.tensors).all())
        if not usable or not np.allclose(self.tensors, np.swapaxes(self.tensors, 3, 4), rtol=1e-4):
            raise InputError(
                "The diffusion tensors cannot be used.",
                f"They must have the shape {(*self.grid.shape, 3, 3)}, be finite and symmetric.",
                "Export one symmetric tensor a voxel; write 0 where there is none.",
            )

    @classmethod
    def from_nifti(cls, path: str | Path, *, order: TensorOrder) -> Self:
        """Read six components a voxel from a NIfTI file, in its world (RAS) axes.

        Parameters
        ----------
        order
            ``"mrtrix"``: xx, yy, zz, xy, xz, yz (dwi2tensor); ``"lower_triangular"``: xx, xy, yy, xz, yz, zz
            (NIfTI's symmetric matrix, ANTs, DIPY). Tensors in voxel axes (FSL) must be rotated first.

        Raises
        ------
        InputError
            When the file does not hold six components a voxel.
        """
        import nibabel

        nib: Any = nibabel

        if order not in _ORDERS:
            raise InputError(
                f"The order of tensor components '{order}' is not known.",
                f"This version reads {', '.join(_ORDERS)}.",
                "Pass order='mrtrix' or order='lower_triangular'.",
            )
        try:
            image = nib.load(Path(path))
            data = np.squeeze(np.asarray(image.dataobj, dtype=np.float64))
        except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
            raise InputError(
                "The tensor file cannot be read.", f"{type(error).__name__}.", "Give a NIfTI file."
            ) from None
        if data.ndim != 4 or data.shape[3] != 6:
            raise InputError(
                "The file holds no diffusion tensors.",
                f"Its shape is {data.shape}; six components a voxel are expected.",
                "Write the tensor (not FA or eigenvectors) as a 4-D NIfTI file.",
            )
        first = load_volume(nib.Nifti1Image(data[..., 0].astype(np.float32), image.affine))
        tensors = np.zeros((*data.shape[:3], 3, 3))
        for component, (i, j) in enumerate(_ORDERS[order]):
            sign = -1.0 if (i == 2) != (j == 2) else 1.0  # RAS to LPS turns x and y, so xz and yz change sign
            tensors[..., i, j] = tensors[..., j, i] = sign * data[..., component]
        return cls(np.ascontiguousarray(tensors.transpose(2, 1, 0, 3, 4)), first)

    def digest(self) -> str:
        """SHA-256 over tensors and grid."""
        content = np.ascontiguousarray(self.tensors, dtype="<f8").tobytes()
        return hashlib.sha256(content + self.grid.affine.astype("<f8").tobytes()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """How well tumour cells move through each place, relative to the model's diffusion coefficient.

    What is given multiplies. A place of relative diffusivity 0 (cerebrospinal fluid, bone) is taken out of
    the domain, unless the lesion lies there.

    Attributes
    ----------
    tissue_map
        Label map, as for :func:`digital_twins.imaging.load_volume`.
    diffusivity_of
        Relative diffusivity of each label of ``tissue_map``; labels not named have 1. White over grey
        matter is often taken as 5 to 10 (Swanson et al. 2000, doi:10.1046/j.1365-2184.2000.00177.x
        [verify]).
    relative_diffusivity
        Map of non-negative numbers, as for :func:`digital_twins.imaging.load_volume`.
    diffusion_tensor
        Tensors; scaled so that their mean diffusivity over the domain is 1, with no eigenvalue below 1 % of
        the voxel's greatest. Voxels without one move isotropically.
    """

    tissue_map: Any = None
    diffusivity_of: Mapping[int, float] = field(default_factory=dict)
    relative_diffusivity: Any = None
    diffusion_tensor: TensorField | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TissueOnGrid:
    """The tissue as the simulator takes it, with its provenance."""

    domain: Mask
    diffusivity: NDArray[np.float32] | None
    tensor: NDArray[np.float32] | None
    inputs: dict[str, str]
    notes: tuple[str, ...]


def tissue_on_grid(tissue: Tissue | None, geometry: Geometry) -> TissueOnGrid:
    """Bring maps and tensors onto the model grid.

    Raises
    ------
    InputError
        When a map belongs to another frame or patient, holds negative numbers, misses most of the domain, or
        the labels and their diffusivities do not fit.
    """
    if tissue is None:
        return TissueOnGrid(geometry.domain, None, None, {}, ())
    frame, lesion = geometry.domain, geometry.distance_mm >= 0.0
    scalar, inputs, notes = _scalar(tissue, frame)
    inside = frame.array
    if scalar is not None:
        inside = inside & ((scalar > 0.0) | lesion)
        scalar = np.where(lesion & (scalar <= 0.0), 1.0, scalar)
    domain = as_mask(frame, inside, meaning=frame.meaning)
    tensor = None
    if tissue.diffusion_tensor is not None:
        tensor, note = _tensors(tissue.diffusion_tensor, domain)
        inputs["diffusion_tensor"] = tissue.diffusion_tensor.digest()
        notes.append(note)
        if scalar is not None:
            tensor, scalar = tensor * scalar[..., None, None], None
        TensorDomain(domain.array, domain.spacing_mm, tensor)  # refuses what the solver could not take
    plain = None if scalar is None else np.where(domain.array, scalar, 0.0).astype(np.float32)
    return TissueOnGrid(
        domain, plain, None if tensor is None else tensor.astype(np.float32), inputs, tuple(notes)
    )


def _scalar(tissue: Tissue, frame: Mask) -> tuple[FloatArray | None, dict[str, str], list[str]]:
    factor: FloatArray | None = None
    inputs: dict[str, str] = {}
    notes: list[str] = []
    if tissue.tissue_map is not None:
        labels = load_volume(tissue.tissue_map)
        factor = _by_label(labels, tissue.diffusivity_of, frame)
        inputs["tissue_map"] = labels.digest()
        named = ", ".join(f"{label}: {value:g}" for label, value in sorted(tissue.diffusivity_of.items()))
        notes.append(f"tissue: relative diffusivity by label ({named or 'all 1'})")
    elif tissue.diffusivity_of:
        raise InputError(
            "Diffusivities of tissues are given without a tissue map.",
            "They belong to the labels of a map.",
            "Pass Tissue(tissue_map=..., diffusivity_of=...).",
        )
    if tissue.relative_diffusivity is not None:
        given = load_volume(tissue.relative_diffusivity)
        _refuse_negative(given.array)
        _refuse_uncovered(given, frame)
        shown = resample(given, frame, interpolation="linear", outside=1.0).array.astype(np.float64)
        factor = shown if factor is None else factor * shown
        inputs["relative_diffusivity"] = given.digest()
        notes.append("tissue: a map of relative diffusivity")
    return factor, inputs, notes


def _by_label(labels: Volume, values: Mapping[int, float], frame: Mask) -> FloatArray:
    _refuse_negative(np.array(list(values.values()) or [0.0], dtype=np.float64))
    array = labels.array
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(
            "The tissue map is an image, not labels.",
            "It holds fractions.",
            "Pass whole-numbered labels, or a map as relative_diffusivity.",
        )
    absent = sorted(set(values) - {int(label) for label in np.unique(array)})
    if absent:
        raise InputError(
            f"The tissue map has no label {absent[0]}.",
            "A diffusivity is given for it.",
            "Check the numbers of the labels.",
        )
    _refuse_uncovered(labels, frame)
    placed = np.rint(resample(labels, frame, interpolation="nearest").array).astype(np.int64)
    factor = np.ones(frame.shape)
    for label, value in values.items():
        factor[placed == label] = float(value)
    return factor


def _tensors(given: TensorField, domain: Mask) -> tuple[FloatArray, str]:
    """Resample component by component (a mean of positive tensors is positive), turn to the grid's axes."""
    _refuse_uncovered(given.grid, domain)
    placed = np.zeros((*domain.shape, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            part = given.grid.with_array(np.ascontiguousarray(given.tensors[..., i, j], dtype=np.float32))
            placed[..., i, j] = placed[..., j, i] = resample(
                part, domain, interpolation="linear", outside=0.0
            ).array
    axes = domain.affine[:3, :3] / np.array(domain.spacing_mm)
    turned = np.einsum("pa,zyxpq,qb->zyxab", axes, placed, axes, optimize=True)
    values, vectors = np.linalg.eigh(turned)
    known = values[..., 2] > 0.0
    share = float(known[domain.array].mean())
    if share < _LEAST_COVERED:
        raise InputError(
            "The diffusion tensors miss most of the domain.",
            f"Only {100.0 * share:.0f} % of it has a tensor with a positive eigenvalue.",
            "Check that the tensors are of this patient and registered to the images.",
        )
    values = np.maximum(values, _FLATTEST * values[..., 2:])
    mean = float(values[known & domain.array].mean())
    values = np.where(known[..., None], values / mean, 1.0)
    vectors = np.where(known[..., None, None], vectors, np.eye(3))
    tensor = np.einsum("zyxak,zyxk,zyxbk->zyxab", vectors, values, vectors, optimize=True)
    tensor = 0.5 * (tensor + np.swapaxes(tensor, 3, 4))
    return tensor, f"tissue: diffusion tensors on {100.0 * share:.0f} % of the domain, mean diffusivity 1"


def _refuse_negative(values: NDArray[Any]) -> None:
    if not np.all(np.isfinite(values)) or np.any(values < 0.0):
        raise InputError(
            "A relative diffusivity cannot be used.",
            "It must be a finite number and not negative.",
            "Use 0 for a barrier, 1 for the model's diffusion coefficient itself.",
        )


def _refuse_uncovered(volume: Volume, frame: Mask) -> None:
    everywhere = as_mask(volume, np.ones(volume.shape, dtype=bool))
    covered = resample(everywhere, frame).array[frame.array].mean()
    if covered < _LEAST_COVERED:
        raise InputError(
            "A tissue map misses most of the domain.",
            f"It covers {100.0 * float(covered):.0f} % of it.",
            "Check that the map is of this patient and registered to the images.",
        )
