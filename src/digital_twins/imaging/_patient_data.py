"""A patient's multi-sequence images over time, with the lesion of each visit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import refuse_not_finite
from digital_twins.imaging._enhancement import ENHANCEMENT_RULE, enhancing_lesion
from digital_twins.imaging._load import load_mask, load_volume
from digital_twins.imaging._patient_files import Outline, outlines, time_points
from digital_twins.imaging._resample import coverage, refuse_other_frame, resample
from digital_twins.imaging._volume import Mask, Volume, as_mask
from digital_twins.units import SECONDS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

_SAME_VISIT_DAYS = 1.0
_SAME_PLACE = 0.5
SEG_RULE = "DICOM Segmentation"
GIVEN_RULE = "given"


@dataclass(frozen=True, slots=True, eq=False)
class ImagingVisit:
    """What was acquired and outlined on one visit.

    Attributes
    ----------
    day
        Days since the first visit.
    images
        Sequence name (``t1``, ``t1ce``, ``t2``, ``flair``) to image, all on one grid; empty when only an
        outline is known of this visit.
    lesion
        The tumour, on the grid on which it was outlined, or None when it was neither given nor could be.
    lesion_from
        Where the outline comes from: ``"DICOM Segmentation"``, ``"given"``, or the automatic rule in words.
    """

    day: float
    images: Mapping[str, Volume]
    lesion: Mask | None
    lesion_from: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PatientData:
    """Images and outlines of one patient, visit by visit, in one frame of reference.

    Attributes
    ----------
    patient_id
        DICOM PatientID, if the images state one.
    baseline
        Time of the first visit in UTC, if known.
    visits
        In order of day, the first on day 0.
    domain
        Mask of the tissue that the tumour can invade, where one is known (:meth:`with_domain`).
    """

    patient_id: str | None
    baseline: datetime | None
    visits: tuple[ImagingVisit, ...]
    domain: Mask | None = None

    def __post_init__(self) -> None:
        days = [visit.day for visit in self.visits]
        if not days or days[0] != 0.0 or any(b <= a for a, b in pairwise(days)):
            raise InputError(
                "The visits of the patient cannot be used.",
                f"Their days must rise from 0 and be different; they are {days}.",
                "Give the baseline first and every visit once, with its days since baseline.",
            )

    @classmethod
    def from_dicom(
        cls,
        *,
        t1_path: str | Path | None = None,
        t1ce_path: str | Path | None = None,
        t2_path: str | Path | None = None,
        flair_path: str | Path | None = None,
        segmentation_path: str | Path | None = None,
        segment: int | str | None = None,
    ) -> Self:
        """Read co-registered MR sequences, of one visit or several, and the outlines of the lesion.

        A path is one DICOM file (a single- or enhanced multi-frame object) or a folder; a folder with series
        of several days gives several visits. Everything of a visit is brought onto the grid of its T1 with
        contrast (else of the first sequence given) by trilinear interpolation.

        The lesion of a visit is, in this order: the DICOM Segmentation in ``segmentation_path`` that was
        drawn on its images or whose study is of its day; one that lies beside the images (in their folder,
        same patient and frame of reference); else, where T1 is there with and without contrast, the automatic
        rule of :func:`enhancing_lesion`, named as such in ``lesion_from``. A Segmentation of another day
        makes a visit of its own, with an outline and no image.

        Parameters
        ----------
        t1_path, t1ce_path, t2_path, flair_path
            T1, T1 with contrast, T2 and FLAIR; at least one. NIfTI and NRRD files are read as well.
        segmentation_path
            A DICOM SEG, or a folder with one for each visit.
        segment
            Number or label of the lesion's segment, where a SEG has several.

        Raises
        ------
        InputError
            When nothing is given; when patients or frames of reference differ, images do not cover the same
            place, a day has two outlines, or visits cannot be told apart.
        NotFoundError
            When a path does not exist.
        """
        paths = {"t1ce": t1ce_path, "t1": t1_path, "t2": t2_path, "flair": flair_path}
        found = {name: time_points(path) for name, path in paths.items() if path is not None}
        if not found:
            raise InputError(
                "There is no image.",
                "No path was given.",
                "Pass at least one of t1_path, t1ce_path, t2_path, flair_path.",
            )
        first = next(iter(found.values()))[0]
        for volumes in found.values():
            for volume in volumes:
                refuse_other_frame(volume, first)
        groups = _visits(found)
        beside = [path for path in paths.values() if path is not None]
        drawn = outlines(segmentation_path, beside, like=first, segment=segment)
        baseline = min((v.acquired for g in groups for v in g.values() if v.acquired), default=None)
        visits = _with_outlines([_on_one_grid(group) for group in groups], drawn, baseline)
        return cls(first.patient_id, baseline, visits)

    @property
    def images(self) -> Mapping[str, Volume]:
        """Images of the first visit."""
        return self.visits[0].images

    @property
    def lesion(self) -> Mask | None:
        """Outline of the first visit."""
        return self.visits[0].lesion

    def with_visit(self, day: float, *, lesion: Any = None, images: Mapping[str, Any] | None = None) -> Self:
        """Return the data with one more visit, or with an outline and images for one that is there.

        Parameters
        ----------
        day
            Days since the first visit, 0 or more.
        lesion
            As for :func:`load_mask`; outlined by :func:`enhancing_lesion` when not given and possible.
        images
            Sequence name to image, as for :func:`load_volume`.

        Raises
        ------
        InputError
            When the day is negative, nothing is given, or something belongs to another patient or frame.
        """
        if lesion is None and not images:
            raise InputError(
                "The visit is empty.",
                "Neither an outline nor an image was given.",
                "Pass lesion= or images=.",
            )
        group = _on_one_grid({name: load_volume(source) for name, source in (images or {}).items()})
        known = next((visit for visit in self.visits if visit.day == day), None)
        if known is not None:
            group = group or dict(known.images)
        outline, rule = _outline(group, lesion)
        if lesion is None and known is not None and known.lesion is not None:
            outline, rule = known.lesion, known.lesion_from
        anchor = self._anchor()
        for volume in (*group.values(), *((outline,) if outline is not None else ())):
            refuse_other_frame(volume, anchor)
        others = [visit for visit in self.visits if visit.day != day]
        made = ImagingVisit(float(day), group, outline, rule)
        return replace(self, visits=tuple(sorted([*others, made], key=lambda visit: visit.day)))

    def with_domain(self, domain: Any) -> Self:
        """Return the data with the mask of the tissue that the tumour can invade (:func:`load_mask`)."""
        mask = load_mask(domain)
        refuse_other_frame(mask, self._anchor())
        return replace(self, domain=mask)

    def _anchor(self) -> Volume:
        first = self.visits[0]
        volume = next(iter(first.images.values()), first.lesion)
        if volume is None:
            raise InputError(
                "The first visit is empty.",
                "It holds neither an image nor an outline.",
                "Make the data from images or with an outline of day 0.",
            )
        return volume


def _visits(found: Mapping[str, Sequence[Volume]]) -> list[dict[str, Volume]]:
    """Group images of several sequences into visits by the day of acquisition."""
    if max(len(volumes) for volumes in found.values()) == 1:
        group = {name: volumes[0] for name, volumes in found.items()}
        _refuse_apart(group)
        return [group]
    groups: list[tuple[datetime, dict[str, Volume]]] = []
    for name, volumes in found.items():
        for volume in volumes:
            when = volume.acquired
            if when is None:
                raise InputError(
                    "A time point has no acquisition time.",
                    f"The folder of '{name}' holds {len(volumes)} series, and one of them states no date.",
                    "Load the visits one by one and join them with PatientData.with_visit(day, ...).",
                )
            near = [g for t, g in groups if abs(_days(t, when)) < _SAME_VISIT_DAYS]
            if not near:
                groups.append((when, {name: volume}))
            elif name in near[0]:
                raise InputError(
                    f"The sequence '{name}' is there twice on one day.",
                    "Two series of that folder were acquired within 24 hours.",
                    "Pass the folder of the series that is meant.",
                )
            else:
                near[0][name] = volume
    return [group for _, group in sorted(groups, key=lambda pair: pair[0])]


def _refuse_apart(group: Mapping[str, Volume]) -> None:
    """Refuse sequences of one visit that were acquired on different days: a mixture of visits."""
    times = [volume.acquired for volume in group.values() if volume.acquired is not None]
    if times and (max(times) - min(times)).total_seconds() >= _SAME_VISIT_DAYS * SECONDS_PER_DAY:
        raise InputError(
            "The sequences were acquired on different days.",
            f"{(max(times) - min(times)).total_seconds() / SECONDS_PER_DAY:.1f} days lie between them; one "
            "visit is one session.",
            "Pass the sequences of one session; add later ones with PatientData.with_visit(day, ...).",
        )


def _on_one_grid(group: Mapping[str, Volume]) -> dict[str, Volume]:
    """Bring the sequences of a visit onto the grid of T1 with contrast, else of the first one."""
    if not group:
        return {}
    like = group.get("t1ce") or next(iter(group.values()))
    placed = {}
    for name, volume in group.items():
        refuse_not_finite(volume.array)
        refuse_other_frame(volume, like)
        if not volume.same_grid(like) and _shared(volume, like) < _SAME_PLACE:
            raise InputError(
                f"The sequence '{name}' shows another place than the others.",
                f"Less than {100 * _SAME_PLACE:.0f} % of the smaller one lies inside the other.",
                "Check that the sequences are of one examination and registered.",
            )
        placed[name] = resample(volume, like)
    return placed


def _shared(volume: Volume, like: Volume) -> float:
    """Return the part of the smaller of two boxes that lies inside the other."""
    everywhere = as_mask(volume, np.ones(volume.shape, dtype=bool))
    common = float(coverage(everywhere, like).array.sum()) * like.voxel_volume_mm3
    smaller = min(v.voxel_volume_mm3 * float(np.prod(v.shape)) for v in (volume, like))
    return common / smaller


def _outline(group: Mapping[str, Volume], lesion: Any) -> tuple[Mask | None, str]:
    if lesion is not None:
        return load_mask(lesion), GIVEN_RULE
    if {"t1", "t1ce"} <= group.keys():
        return enhancing_lesion(group["t1"], group["t1ce"]), ENHANCEMENT_RULE.format(sds=4.0)
    return None, ""


def _with_outlines(
    groups: Sequence[Mapping[str, Volume]], drawn: Sequence[Outline], baseline: datetime | None
) -> tuple[ImagingVisit, ...]:
    """Give each visit its outline; outlines of other days become visits without images."""
    visits: dict[float, ImagingVisit] = {}
    left = list(drawn)
    for group in groups:
        when = next((volume.acquired for volume in group.values() if volume.acquired), None)
        day = 0.0 if when is None or baseline is None else _days(when, baseline)
        mine = [outline for outline in left if _is_of(outline, group, when)]
        if len(mine) > 1:
            raise InputError(
                f"Day {day:g} has {len(mine)} segmentations.",
                "Each may hold another outline of the lesion.",
                "Pass segmentation_path= with the one that is meant.",
            )
        left = [outline for outline in left if outline not in mine]
        lesion, rule = (mine[0].mask, SEG_RULE) if mine else _outline(group, None)
        visits[day] = ImagingVisit(day, group, lesion, rule)
    for outline in left:
        if outline.when is None or baseline is None:
            raise InputError(
                "The day of a segmentation is not known.",
                "It or the images state no date, and there are several outlines or none for the images.",
                "Add it with PatientData.with_visit(day, lesion=...).",
            )
        day = _days(outline.when, baseline)
        if day in visits:
            raise InputError(
                f"Day {day:g} has two segmentations.",
                "Each may hold another outline of the lesion.",
                "Pass segmentation_path= with the ones that are meant.",
            )
        visits[day] = ImagingVisit(day, {}, outline.mask, SEG_RULE)
    first = min(visits)
    if first < 0.0:
        raise InputError(
            "A segmentation lies before the first image.",
            f"It is from {-first:.1f} days earlier.",
            "Pass images of the first visit, or leave the earlier segmentation out.",
        )
    return tuple(visits[day] for day in sorted(visits))


def _days(when: datetime, baseline: datetime) -> float:
    return (when - baseline).total_seconds() / SECONDS_PER_DAY


def _is_of(outline: Outline, group: Mapping[str, Volume], when: datetime | None) -> bool:
    """Whether an outline belongs to a visit: drawn on its images, of its day, or without any day."""
    images = {uid for volume in group.values() for uid in volume.source_uids}
    if outline.drawn_on & images:
        return True
    if outline.when is None or when is None:
        return True
    return abs(_days(outline.when, when)) < _SAME_VISIT_DAYS
