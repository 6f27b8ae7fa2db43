"""What is measured: vital signs with codes and units, samples, waveforms, and whose they are."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.signals._association import (
        KINDS as KINDS,
        Association as Association,
        AssociationLog as AssociationLog,
    )
    from digital_twins.monitoring.signals._batch import (
        Batch as Batch,
        table_of as table_of,
        values_of as values_of,
        whole as whole,
    )
    from digital_twins.monitoring.signals._compiled import (
        cached_by as cached_by,
        columns as columns,
        jit as jit,
    )
    from digital_twins.monitoring.signals._named import Named as Named
    from digital_twins.monitoring.signals._per_patient import PerPatient as PerPatient
    from digital_twins.monitoring.signals._sample import (
        Quality as Quality,
        Reading as Reading,
        Sample as Sample,
    )
    from digital_twins.monitoring.signals._units import in_unit as in_unit
    from digital_twins.monitoring.signals._vitals import (
        COLUMN as COLUMN,
        LOINC_CODE as LOINC_CODE,
        MDC_CODE as MDC_CODE,
        VITALS as VITALS,
        VitalSign as VitalSign,
        vital as vital,
    )
    from digital_twins.monitoring.signals._waveforms import (
        MAX_WAVEFORM_BYTES as MAX_WAVEFORM_BYTES,
        WAVEFORMS as WAVEFORMS,
        Waveform as Waveform,
        WaveformPiece as WaveformPiece,
        Waveforms as Waveforms,
        decode_waveform as decode_waveform,
    )

_ROOM = "digital_twins.monitoring.signals"
_WHERE = {
    **dict.fromkeys(("Association", "AssociationLog", "KINDS"), f"{_ROOM}._association"),
    **dict.fromkeys(("Batch", "table_of", "values_of", "whole"), f"{_ROOM}._batch"),
    **dict.fromkeys(("cached_by", "columns", "jit"), f"{_ROOM}._compiled"),
    "Named": f"{_ROOM}._named",
    "PerPatient": f"{_ROOM}._per_patient",
    **dict.fromkeys(("Quality", "Reading", "Sample"), f"{_ROOM}._sample"),
    "in_unit": f"{_ROOM}._units",
    **dict.fromkeys(("COLUMN", "LOINC_CODE", "MDC_CODE", "VITALS", "VitalSign", "vital"), f"{_ROOM}._vitals"),
    **dict.fromkeys(
        ("MAX_WAVEFORM_BYTES", "WAVEFORMS", "Waveform", "WaveformPiece", "Waveforms", "decode_waveform"),
        f"{_ROOM}._waveforms",
    ),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
