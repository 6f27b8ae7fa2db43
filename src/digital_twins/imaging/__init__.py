"""Images and masks with exact geometry: DICOM, NIfTI and NRRD into volumes, and back."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.imaging._enhancement import enhancing_lesion as enhancing_lesion
    from digital_twins.imaging._files import (
        from_highdicom as from_highdicom,
        save_nifti as save_nifti,
        save_nrrd as save_nrrd,
        to_highdicom as to_highdicom,
        to_nifti_bytes as to_nifti_bytes,
    )
    from digital_twins.imaging._key_region import (
        KeyRegion as KeyRegion,
        key_regions as key_regions,
    )
    from digital_twins.imaging._load import (
        load_mask as load_mask,
        load_volume as load_volume,
    )
    from digital_twins.imaging._parametric_map import (
        parametric_map as parametric_map,
        volume_from_parametric_map as volume_from_parametric_map,
    )
    from digital_twins.imaging._patient_data import (
        ImagingVisit as ImagingVisit,
        PatientData as PatientData,
    )
    from digital_twins.imaging._registration import (
        RigidRegistration as RigidRegistration,
        load_registrations as load_registrations,
        registration_object as registration_object,
    )
    from digital_twins.imaging._resample import (
        bounding_box as bounding_box,
        coverage as coverage,
        crop as crop,
        downsample as downsample,
        grid as grid,
        resample as resample,
    )
    from digital_twins.imaging._rt_course import (
        dose_on_grid as dose_on_grid,
        dose_per_fraction as dose_per_fraction,
    )
    from digital_twins.imaging._rt_dose import (
        Dose as Dose,
        PlannedHistogram as PlannedHistogram,
        load_dose as load_dose,
    )
    from digital_twins.imaging._rt_plan import (
        Beam as Beam,
        FractionGroup as FractionGroup,
        Plan as Plan,
        Prescription as Prescription,
        load_plan as load_plan,
    )
    from digital_twins.imaging._rt_structures import (
        Structure as Structure,
        StructureSet as StructureSet,
        load_structures as load_structures,
    )
    from digital_twins.imaging._rt_structures_write import (
        StructureDetails as StructureDetails,
        structures_from_masks as structures_from_masks,
    )
    from digital_twins.imaging._seg import (
        masks_from_seg as masks_from_seg,
    )
    from digital_twins.imaging._seg_fractions import (
        fractions_from_seg as fractions_from_seg,
        seg_from_fractions as seg_from_fractions,
    )
    from digital_twins.imaging._seg_write import (
        SegDetails as SegDetails,
        seg_from_masks as seg_from_masks,
    )
    from digital_twins.imaging._series import (
        volume_from_series as volume_from_series,
    )
    from digital_twins.imaging._suv import (
        suv_factor as suv_factor,
        suv_from_series as suv_from_series,
    )
    from digital_twins.imaging._volume import (
        Mask as Mask,
        Volume as Volume,
        as_mask as as_mask,
    )

_ROOM = "digital_twins.imaging"
_WHERE = {
    **dict.fromkeys(
        ("from_highdicom", "save_nifti", "save_nrrd", "to_highdicom", "to_nifti_bytes"), f"{_ROOM}._files"
    ),
    "enhancing_lesion": f"{_ROOM}._enhancement",
    **dict.fromkeys(("KeyRegion", "key_regions"), f"{_ROOM}._key_region"),
    **dict.fromkeys(("load_mask", "load_volume"), f"{_ROOM}._load"),
    **dict.fromkeys(("ImagingVisit", "PatientData"), f"{_ROOM}._patient_data"),
    **dict.fromkeys(
        ("bounding_box", "coverage", "crop", "downsample", "grid", "resample"), f"{_ROOM}._resample"
    ),
    **dict.fromkeys(("parametric_map", "volume_from_parametric_map"), f"{_ROOM}._parametric_map"),
    **dict.fromkeys(
        ("RigidRegistration", "load_registrations", "registration_object"), f"{_ROOM}._registration"
    ),
    **dict.fromkeys(("dose_on_grid", "dose_per_fraction"), f"{_ROOM}._rt_course"),
    **dict.fromkeys(("Dose", "PlannedHistogram", "load_dose"), f"{_ROOM}._rt_dose"),
    **dict.fromkeys(("Beam", "FractionGroup", "Plan", "Prescription", "load_plan"), f"{_ROOM}._rt_plan"),
    **dict.fromkeys(("Structure", "StructureSet", "load_structures"), f"{_ROOM}._rt_structures"),
    **dict.fromkeys(("StructureDetails", "structures_from_masks"), f"{_ROOM}._rt_structures_write"),
    "masks_from_seg": f"{_ROOM}._seg",
    **dict.fromkeys(("fractions_from_seg", "seg_from_fractions"), f"{_ROOM}._seg_fractions"),
    **dict.fromkeys(("SegDetails", "seg_from_masks"), f"{_ROOM}._seg_write"),
    "volume_from_series": f"{_ROOM}._series",
    **dict.fromkeys(("suv_factor", "suv_from_series"), f"{_ROOM}._suv"),
    **dict.fromkeys(("Mask", "Volume", "as_mask"), f"{_ROOM}._volume"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
