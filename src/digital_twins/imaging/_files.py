"""NIfTI and NRRD files, nibabel, SimpleITK, highdicom and MONAI objects, into and out of Volumes.

NIfTI's world is RAS and its arrays are indexed (i, j, k) with i fastest; ours is LPS and [slice, row,
column]. The conversion happens here and nowhere else.
"""

from __future__ import annotations

import gzip as gzip_module
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_not_finite, refuse_size
from digital_twins.imaging._volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNIT_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha")


def from_ijk(array: NDArray[Any], affine: NDArray[Any], *, ras: bool) -> Volume:
    """Return the volume of an array indexed (i, j, k) with its affine in RAS or LPS millimetres."""
    array = np.asarray(array)
    while array.ndim > 3 and (1 in (array.shape[0], array.shape[-1])):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 3:
        raise InputError(
            what=f"The image has the shape {array.shape}.",
            why="A volume is three-dimensional: this one has several channels, directions or time points.",
            fix="Select one 3-D image first.",
        )
    refuse_not_finite(array)
    world = np.array(affine, dtype=np.float64)
    if world.shape != (4, 4):
        raise InputError(
            what="The image's affine is not a 4x4 matrix.",
            why="The position of the voxels is unknown without it.",
            fix="Pass an image with its affine.",
        )
    world = _LPS @ world if ras else world
    return Volume(np.ascontiguousarray(array.transpose(2, 1, 0)), world[:, [2, 1, 0, 3]])


def load_nifti(path: Path) -> Volume:
    """Read a NIfTI file (.nii, .nii.gz); a header without any orientation is refused."""
    nib = _nibabel()
    with foreign("NIfTI file"):
        image = nib.load(path)
        header = image.header
        refuse_size(image.shape)
        codes = int(header["sform_code"]), int(header["qform_code"])
        unit = header.get_xyzt_units()[0]
        array = np.asarray(image.dataobj)
        affine = image.affine
    if codes == (0, 0):
        raise InputError(
            what="The NIfTI file states no orientation.",
            why="Both sform_code and qform_code are 0: left and right would be a guess.",
            fix="Write it again with an affine, e.g. nibabel.Nifti1Image(array, affine).",
        )
    scale = np.diag([*[_UNIT_MM.get(unit, 1.0)] * 3, 1.0])
    return _named(from_ijk(array, scale @ affine, ras=True), path)


def load_itk(path: Path) -> Volume:
    """Read a NRRD or MetaImage file by SimpleITK."""
    sitk = _itk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with foreign("NRRD or MetaImage file"):
        reader.ReadImageInformation()
        refuse_size(reader.GetSize())
        image = reader.Execute()
    return _named(from_sitk(image), path)


def from_sitk(image: Any) -> Volume:
    """Return the volume of a ``SimpleITK.Image`` (ITK's world is LPS)."""
    sitk = _itk()
    if image.GetDimension() != 3:
        raise InputError(
            what=f"The image has {image.GetDimension()} dimensions.",
            why="A volume is three-dimensional.",
            fix="Select one 3-D image first.",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return from_ijk(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine, ras=False)


def to_sitk(volume: Volume) -> Any:
    """Return the volume as ``SimpleITK.Image``; booleans become uint8."""
    sitk = _itk()
    spacing = np.array(volume.spacing_mm)[::-1]
    image = sitk.GetImageFromArray(_plain(volume.array))
    image.SetDirection((volume.affine[:3, 2::-1] / spacing).ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.origin_mm.tolist())
    return image


def from_array_like(source: Any) -> Volume | None:
    """Return the volume of an object that carries its own affine, or None when it is none of the known kinds.

    Known by their shape, not by import: highdicom ``Volume``, ``SimpleITK.Image``, nibabel images, and MONAI
    ``MetaTensor`` (RAS unless its ``meta["space"]`` says LPS; a single leading channel is dropped).
    """
    if hasattr(source, "coordinate_system") and hasattr(source, "array"):
        return from_highdicom(source)
    if hasattr(source, "GetDirection") and hasattr(source, "GetSpacing"):
        return from_sitk(source)
    if not hasattr(source, "affine"):
        return None
    if hasattr(source, "dataobj"):
        return from_ijk(np.asarray(source.dataobj), source.affine, ras=True)
    space = str(getattr(source, "meta", {}).get("space", "RAS"))
    return from_ijk(_numpy(source), _numpy(source.affine), ras=not space.endswith("LPS"))


def from_highdicom(source: Any) -> Volume:
    """Return our volume of a ``highdicom.Volume`` in patient coordinates, without loss."""
    if str(getattr(source.coordinate_system, "value", source.coordinate_system)) != "PATIENT":
        raise InputError(
            what="The volume is not in patient coordinates.",
            why="A slide has no position in the patient.",
            fix="Pass a CT, MR or PET volume.",
        )
    array = source.array
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    refuse_not_finite(array)
    return Volume(array, source.affine, frame_of_reference_uid=source.frame_of_reference_uid)


def to_highdicom(volume: Volume) -> Any:
    """Return a ``highdicom.Volume``, without loss; a sheared volume raises :class:`InputError`."""
    import highdicom

    if volume.is_sheared:
        raise InputError(
            what="The volume is sheared (tilted gantry).",
            why="highdicom's Volume holds only perpendicular axes.",
            fix="resample() it onto a perpendicular grid first.",
        )
    return highdicom.Volume(
        _plain(volume.array),
        volume.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )


def to_nifti_bytes(volume: Volume, *, gzip: bool = True) -> bytes:
    """Return the volume as a NIfTI-1 file, RAS, sform and qform set (sform alone when sheared).

    The same volume gives the same bytes (the gzip header carries no time).
    """
    nib = _nibabel()
    affine = _LPS @ volume.affine[:, [2, 1, 0, 3]]
    array = _plain(volume.array).transpose(2, 1, 0)
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="unknown" if volume.is_sheared else "scanner")
    image.header.set_xyzt_units("mm")
    data: bytes = image.to_bytes()
    return gzip_module.compress(data, 6, mtime=0) if gzip else data


def save_nifti(volume: Volume, path: str | Path) -> None:
    """Write a NIfTI-1 file; compressed when the name ends in ``.gz``. Masks become 0 and 1.

    NIfTI stores the affine in single precision: positions are exact to about 1e-5 mm.
    """
    path = Path(path)
    path.write_bytes(to_nifti_bytes(volume, gzip=path.name.endswith(".gz")))


def save_nrrd(volume: Volume, path: str | Path) -> None:
    """Write a compressed NRRD file, in LPS, double precision. Masks become 0 and 1."""
    sitk = _itk()
    sitk.WriteImage(to_sitk(volume), str(path), useCompression=True)


def _itk() -> Any:
    import SimpleITK

    return SimpleITK


def _nibabel() -> Any:
    import nibabel

    return nibabel


def _named(volume: Volume, path: Path) -> Volume:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Volume(volume.array, volume.affine, source_uids=(f"sha256:{digest}",))


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=np.uint8 if array.dtype == bool else array.dtype)


def _numpy(tensor: Any) -> NDArray[Any]:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.asarray(tensor)
