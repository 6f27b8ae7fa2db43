"""Rigid registrations between frames of reference, and Spatial Registration objects (PS3.3 section A.39)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign
from digital_twins.imaging._rt_files import single
from digital_twins.imaging._rt_objects import derived_object, item, referenced
from digital_twins.imaging._volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

V = TypeVar("V", bound=Volume)
_CLASS = "1.2.840.10008.5.1.4.1.1.66.1"


@dataclass(frozen=True, slots=True, eq=False)
class RigidRegistration:
    """A rotation and shift from one frame of reference to another.

    Attributes
    ----------
    matrix
        4x4: ``matrix @ (x, y, z, 1)`` takes LPS millimetres of ``from_frame_uid`` to ``to_frame_uid``.
    from_frame_uid, to_frame_uid
        Frames of reference.

    Raises
    ------
    InputError
        The matrix is not a rotation with a shift (no mirror, scale or shear).
    """

    matrix: NDArray[np.float64]
    from_frame_uid: str
    to_frame_uid: str

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        rigid = (
            matrix.shape == (4, 4)
            and bool(np.isfinite(matrix).all())
            and np.abs(matrix[3] - (0, 0, 0, 1)).max() < 1e-6
            and np.abs(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)).max() < 1e-3
            and np.linalg.det(matrix[:3, :3]) > 0
        )
        if not rigid:
            raise InputError(
                what="The registration is not rigid.",
                why="Its matrix mirrors, scales or shears; dose and volume would change with it.",
                fix="Pass a rotation and a shift as a 4x4 matrix.",
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    @property
    def inverse(self) -> RigidRegistration:
        """The way back."""
        return RigidRegistration(
            np.asarray(np.linalg.inv(self.matrix), dtype=np.float64), self.to_frame_uid, self.from_frame_uid
        )

    def apply(self, volume: V) -> V:
        """Return a volume moved to the other frame of reference; no voxel value changes.

        Raises
        ------
        InputError
            The volume is not in ``from_frame_uid``.
        """
        if volume.frame_of_reference_uid != self.from_frame_uid:
            raise InputError(
                what="The registration does not start from the volume's frame of reference.",
                why="It links two other frames, or the volume names none.",
                fix="Use the registration made for this volume, or its inverse.",
            )
        return replace(volume, affine=self.matrix @ volume.affine, frame_of_reference_uid=self.to_frame_uid)


def load_registrations(source: Any) -> tuple[RigidRegistration, ...]:
    """Return the registrations of a Spatial Registration object, one for each source frame of reference.

    The identity of the registered frame onto itself is left out.

    Raises
    ------
    InputError
        Not one REG object, damaged, or a matrix that is not rigid.
    NotFoundError
        The path does not exist.
    """
    dataset = single(source, "REG")
    with foreign("Spatial Registration"):
        target = str(dataset.FrameOfReferenceUID)
        found = [
            RigidRegistration(_matrix(one), str(one.FrameOfReferenceUID), target)
            for one in dataset.get("RegistrationSequence") or []
            if one.get("FrameOfReferenceUID") and str(one.FrameOfReferenceUID) != target
        ]
    if not found:
        raise InputError(
            what="The object registers no other frame of reference.",
            why="Its RegistrationSequence holds none beside the registered frame itself.",
            fix="Pass a rigid Spatial Registration; deformable ones are not read.",
        )
    return tuple(found)


def _matrix(registration: Dataset) -> NDArray[np.float64]:
    """Product of an item's matrices, applied in the order of the sequence."""
    product = np.eye(4)
    for step in registration.get("MatrixRegistrationSequence") or []:
        for one in step.get("MatrixSequence") or []:
            values = np.array(one.FrameOfReferenceTransformationMatrix, dtype=np.float64)
            product = values.reshape(4, 4) @ product
    return product


def registration_object(
    registration: RigidRegistration,
    fixed_images: Sequence[Dataset],
    moving_images: Sequence[Dataset],
    *,
    series_description: str,
    series_number: int,
    created: datetime | None = None,
) -> Dataset:
    """Return a Spatial Registration object in the study of the fixed images.

    Parameters
    ----------
    registration
        From the frame of the moving images to that of the fixed ones.
    fixed_images, moving_images
        Data sets of the two series; both are referred to.

    Raises
    ------
    InputError
        The images are not in the registration's frames.
    """
    frames = [
        {str(d.get("FrameOfReferenceUID") or "") for d in images} for images in (fixed_images, moving_images)
    ]
    if frames != [{registration.to_frame_uid}, {registration.from_frame_uid}]:
        raise InputError(
            what="The images are not in the registration's frames of reference.",
            why="The fixed images must be in its target frame, the moving ones in its source frame.",
            fix="Pass the series that were registered, in that order.",
        )
    moment = created or datetime.now(tz=UTC)
    dataset = derived_object(
        fixed_images[0], sop_class=_CLASS, modality="REG", uids=(None, None), created=moment
    )
    dataset.SeriesDescription = series_description[:64]
    dataset.SeriesNumber = series_number
    dataset.FrameOfReferenceUID = registration.to_frame_uid
    dataset.PositionReferenceIndicator = ""
    dataset.Laterality = ""
    dataset.ContentDate = moment.strftime("%Y%m%d")
    dataset.ContentTime = moment.strftime("%H%M%S")
    dataset.ContentLabel = "REGISTRATION"
    dataset.ContentDescription = series_description[:64]
    dataset.ContentCreatorName = "digital-twins^"
    dataset.RegistrationSequence = [
        _item(registration.to_frame_uid, np.eye(4), fixed_images),
        _item(registration.from_frame_uid, registration.matrix, moving_images),
    ]
    _add_common_references(dataset, fixed_images, moving_images)
    return dataset


def _item(frame_uid: str, matrix: NDArray[np.float64], images: Sequence[Dataset]) -> Dataset:
    values = [f"{value:.12g}"[:16] for value in matrix.ravel().tolist()]
    step = item(FrameOfReferenceTransformationMatrixType="RIGID", FrameOfReferenceTransformationMatrix=values)
    code = item(CodeValue="125021", CodingSchemeDesignator="DCM", CodeMeaning="Frame of Reference Identity")
    if not np.array_equal(matrix, np.eye(4)):
        code = item(CodeValue="125025", CodingSchemeDesignator="DCM", CodeMeaning="Visual Alignment")
    return item(
        FrameOfReferenceUID=frame_uid,
        ReferencedImageSequence=[referenced(image) for image in images],
        MatrixRegistrationSequence=[
            item(MatrixSequence=[step], RegistrationTypeCodeSequence=[code]),
        ],
    )


def _add_common_references(dataset: Dataset, fixed: Sequence[Dataset], moving: Sequence[Dataset]) -> None:
    """Common Instance Reference module (PS3.3 section C.12.2): series of this study, and of others."""
    others = []
    own = []
    for images in (fixed, moving):
        series = item(
            SeriesInstanceUID=str(images[0].SeriesInstanceUID),
            ReferencedInstanceSequence=[referenced(image) for image in images],
        )
        study = str(images[0].StudyInstanceUID)
        if study == str(dataset.StudyInstanceUID):
            own.append(series)
        else:
            others.append(item(StudyInstanceUID=study, ReferencedSeriesSequence=[series]))
    dataset.ReferencedSeriesSequence = own
    if others:
        dataset.StudiesContainingOtherReferencedInstancesSequence = others
