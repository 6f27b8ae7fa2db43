"""Derivatives of the physiology's law by its state, written out; compiled with it in `_kernels`.

Where the law is cut off (`max`, `min`), the derivative is that of the side on which the state lies. A test
holds each beside differences of the law itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

from digital_twins.monitoring.twin._physiology import (
    _ARTERIAL_COMPLIANCE,
    _BLOOD_ML_PER_KG,
    _BREATH_S,
    _CO2_DRIVE_PER_MMHG,
    _CO2_STORE_L,
    _FEVER_BREATH,
    _FEVER_HEART,
    _FEVER_METABOLISM,
    _FILLING_MMHG,
    _FILLING_S,
    _GAS,
    _HEART_S,
    _HEAT_S,
    _HYPOXIC_DRIVE,
    _HYPOXIC_FROM,
    _INTERVAL_S_PER_MMHG,
    _LEAK_S,
    _LEAST_RUNOFF_S,
    _LUNG_L,
    _MOST_SHUNT,
    _OXYGEN_ML_PER_G,
    _RESISTANCE_PER_MMHG,
    _SCALE_MMHG,
    _SEA_MMHG,
    _SHUNT,
    _SYMPATHETIC_S,
    _SYSTOLE_S,
    _VEINS_ML_PER_MMHG,
    _VENOUS_COMPLIANCE,
    _WATER_MMHG,
    _filled,
    _metabolism,
    _resistance,
    _stroke,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_P, _H, _S, _V, _O, _C, _B, _T, _TONE, _SHUNTED, _DRIVE, _POINT, _PACE = range(13)
_DEPENDS = (
    (_P, _H, _S, _V, _TONE),
    (_P, _H, _S, _T, _PACE),
    (_P, _S),
    (_V,),
    (_O, _B, _T),
    (_C, _B, _T),
    (_P, _H, _S, _V, _O, _C, _B, _T, _SHUNTED, _DRIVE),
    (_T, _POINT),
)
_STARTS = np.cumsum([0, *map(len, _DEPENDS)])
DERIVATIVES = int(_STARTS[-1])
"""How many derivatives `change_slopes` writes."""
_AT_HEART, _AT_REFLEX, _AT_VOLUME, _AT_OXYGEN, _AT_CO2, _AT_BREATH, _AT_HEAT = _STARTS[1:-1].tolist()


@register_jitable
def change_slopes(slope: Floats, state: Floats, body: Any, inputs: Any, fixed: tuple[Any, ...]) -> None:
    """Write the derivatives of `changes`, of one patient, in the order of `_DEPENDS`."""
    scale = body.weight_kg / 70.0
    off = (state[_P] - body.mean_pressure_mmhg) / _SCALE_MMHG
    felt = 1.0 / (1.0 + off * off)  # of the error by the pressure
    error = _SCALE_MMHG * np.arctan(off)
    stroke = stroke_slopes(state, body, fixed[4])
    _pressure_slopes(slope, state, body, (fixed[0] * inputs.vasopressor, scale), stroke)
    beat = 60.0 / (fixed[3] * body.heart_rate_per_min)
    interval = beat + _INTERVAL_S_PER_MMHG * (error + state[_S])
    faster = -60.0 / (interval * interval) / _HEART_S if interval > 0.27 else 0.0
    slope[_AT_HEART] = faster * _INTERVAL_S_PER_MMHG * felt
    slope[_AT_HEART + 1] = -1.0 / _HEART_S
    slope[_AT_HEART + 2] = faster * _INTERVAL_S_PER_MMHG
    slope[_AT_HEART + 3] = _FEVER_HEART / _HEART_S
    slope[_AT_HEART + 4] = -faster * beat
    slope[_AT_REFLEX], slope[_AT_REFLEX + 1] = felt / _SYMPATHETIC_S, -1.0 / _SYMPATHETIC_S
    slope[_AT_VOLUME] = -1.0 / _LEAK_S if state[_V] > _BLOOD_ML_PER_KG * body.weight_kg else 0.0
    a_breath = _GAS * 0.2 * scale / 40.0 / body.respiratory_rate_per_min
    ventilation, lung, store = state[_B] * a_breath, 60.0 * _LUNG_L * scale, 60.0 * _CO2_STORE_L * scale
    warmer = 0.25 * scale * _FEVER_METABOLISM  # of the uptake by the temperature
    inspired = inputs.oxygen_fraction * (_SEA_MMHG - _WATER_MMHG)
    slope[_AT_OXYGEN], slope[_AT_OXYGEN + 1] = -ventilation / lung, a_breath * (inspired - state[_O]) / lung
    slope[_AT_OXYGEN + 2] = -_GAS * warmer / lung
    slope[_AT_CO2], slope[_AT_CO2 + 1] = -ventilation / store, -a_breath * state[_C] / store
    slope[_AT_CO2 + 2] = _GAS * 0.8 * warmer / store
    _breath_slopes(slope, state, body, (fixed[1], fixed[2]), stroke)
    slope[_AT_HEAT], slope[_AT_HEAT + 1] = -1.0 / _HEAT_S, 1.0 / _HEAT_S


@register_jitable
def times(slope: Floats, passed: Floats, out: Floats) -> None:
    """Write the product of what `change_slopes` wrote with a matrix [SIZE, column] into the first eight rows.

    All rows for one column, so that the processor takes several columns at a time.
    """
    a, b, c, d, e = slope[0:5], slope[5:10], slope[10:13], slope[13:19], slope[19:]
    for m in range(passed.shape[1]):
        pressure, heart, reflex, volume = passed[0, m], passed[1, m], passed[2, m], passed[3, m]
        oxygen, co2, breath, heat = passed[4, m], passed[5, m], passed[6, m], passed[7, m]
        out[0, m] = a[0] * pressure + a[1] * heart + a[2] * reflex + a[3] * volume + a[4] * passed[8, m]
        out[1, m] = b[0] * pressure + b[1] * heart + b[2] * reflex + b[3] * heat + b[4] * passed[12, m]
        out[2, m] = c[0] * pressure + c[1] * reflex
        out[3, m] = c[2] * volume
        out[4, m] = d[0] * oxygen + d[1] * breath + d[2] * heat
        out[5, m] = d[3] * co2 + d[4] * breath + d[5] * heat
        within = e[0] * pressure + e[1] * heart + e[2] * reflex + e[3] * volume + e[4] * oxygen
        driven = e[5] * co2 + e[6] * breath + e[7] * heat + e[8] * passed[9, m] + e[9] * passed[10, m]
        out[6, m] = within + driven
        out[7, m] = e[10] * heat + e[11] * passed[11, m]


@register_jitable
def stroke_slopes(state: Floats, body: Any, at_rest: Any) -> tuple[Any, ...]:
    """Return venous pressure, its derivative by volume, the stroke volume, and its by P, H and volume.

    Volume and sympathetic tone act through what fills the veins, as the pressure does.
    """
    scale = body.weight_kg / 70.0
    venous, stroke = _stroke(state, body, at_rest)
    by_volume = 1.0 / (_VENOUS_COMPLIANCE * scale) if venous > 0.2 else 0.0
    share, heart = _filled(state[_H]), state[_H]
    filling = venous + _FILLING_MMHG
    stretched = 2.0 * body.weight_kg * _FILLING_MMHG / (filling * filling) * share / at_rest * by_volume
    by_heart = 0.0
    if heart > 1.0 and 60.0 / heart - _SYSTOLE_S > 0.02:
        by_heart = -stroke / share * (1.0 - share) / _FILLING_S * 60.0 / (heart * heart)
    by_pressure = -_ARTERIAL_COMPLIANCE * scale * stretched
    return venous, by_volume, stroke, by_pressure, by_heart, stretched


@register_jitable
def _pressure_slopes(
    slope: Floats, state: Floats, body: Any, tone_and_scale: tuple[float, float], stroke: tuple[Any, ...]
) -> None:
    """Write the derivatives of the change of the arterial pressure, as the first of `_DEPENDS`."""
    tone, scale = tone_and_scale
    venous, filled, volume, by_pressure, by_heart, by_volume = stroke
    compliance, veins = _ARTERIAL_COMPLIANCE * scale, _VEINS_ML_PER_MMHG * scale
    resting = _resistance(body)
    wide = resting - _RESISTANCE_PER_MMHG * state[_S]
    resistance = tone * max(wide, 0.3 * resting)
    by_reflex = -tone * _RESISTANCE_PER_MMHG if wide > 0.3 * resting else 0.0
    by_tone = resistance
    if resistance < _LEAST_RUNOFF_S / compliance:
        resistance, by_reflex, by_tone = _LEAST_RUNOFF_S / compliance, 0.0, 0.0
    beats = state[_H] / 60.0
    runoff = (state[_P] - venous) / (resistance * resistance)
    slope[0] = (beats * by_pressure - (1.0 + filled * compliance) / resistance) / compliance
    slope[1] = (volume / 60.0 + beats * by_heart) / compliance
    by_filling = beats * by_volume + filled / resistance
    slope[2] = (-veins * by_filling + runoff * by_reflex) / compliance
    slope[3] = by_filling / compliance
    slope[4] = runoff * by_tone / compliance


@register_jitable
def _breath_slopes(
    slope: Floats, state: Floats, body: Any, shunt_and_drive: tuple[float, float], stroke: tuple[Any, ...]
) -> None:
    """Write the derivatives of the change of the respiratory rate."""
    shunted, drive = shunt_and_drive
    mixed = mixed_slopes(state, body, shunted, stroke)
    lack = _HYPOXIC_FROM - mixed[0]
    wish = 1.0 + _CO2_DRIVE_PER_MMHG * (state[_C] - 40.0) + _HYPOXIC_DRIVE * max(lack, 0.0)
    warm = state[_T] - body.temperature_cel
    driven = drive * min(max(wish, 0.0), 3.0) * body.respiratory_rate_per_min
    moves = 1.0 / _BREATH_S if driven + _FEVER_BREATH * warm > 0.0 else 0.0
    by_wish = drive * body.respiratory_rate_per_min * moves if 0.0 < wish < 3.0 else 0.0
    by_saturation = -_HYPOXIC_DRIVE * by_wish if lack > 0.0 else 0.0
    for n in range(5):  # pressure, heart, reflex, volume, oxygen
        slope[_AT_BREATH + n] = by_saturation * mixed[1 + n]
    slope[_AT_BREATH + 5] = _CO2_DRIVE_PER_MMHG * by_wish
    slope[_AT_BREATH + 6] = -1.0 / _BREATH_S
    slope[_AT_BREATH + 7] = by_saturation * mixed[6] + _FEVER_BREATH * moves
    slope[_AT_BREATH + 8] = by_saturation * mixed[7]
    slope[_AT_BREATH + 9] = driven * moves


@register_jitable
def mixed_slopes(state: Floats, body: Any, shunted: float, stroke: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arterial saturation (%) and its derivatives by P, H, S, V, oxygen, temperature, shunt."""
    scale, beats = body.weight_kg / 70.0, state[_H] / 60.0
    tension: float = max(state[_O], 1.0)
    carried = tension * (tension * tension + 150.0)
    steep = 23400.0 * (3.0 * tension * tension + 150.0) / ((carried + 23400.0) * (carried + 23400.0))
    shunt = min(_SHUNT * shunted, _MOST_SHUNT)
    mixed_in = shunt / (1.0 - shunt)
    flow = beats * stroke[2]
    uptake, _ = _metabolism(state[_T] - body.temperature_cel, scale)
    drop = uptake * 1000.0 / (max(flow, 5.0) * 0.6) / (_OXYGEN_ML_PER_G * body.haemoglobin_g_dl)
    share = carried / (carried + 23400.0) - mixed_in * drop
    if share <= 0.0 or share >= 1.0:
        return 100.0 * min(max(share, 0.0), 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    by_flow = 100.0 * mixed_in * drop / flow if flow > 5.0 else 0.0
    by_volume = by_flow * beats * stroke[5]
    return (
        100.0 * share,
        by_flow * beats * stroke[3],
        by_flow * (stroke[2] / 60.0 + beats * stroke[4]),
        -_VEINS_ML_PER_MMHG * scale * by_volume,
        by_volume,
        100.0 * steep if state[_O] > 1.0 else 0.0,
        -100.0 * mixed_in * drop / uptake * 0.25 * scale * _FEVER_METABOLISM,
        -100.0 * drop * mixed_in / (1.0 - shunt) if _SHUNT * shunted < _MOST_SHUNT else 0.0,
    )


@register_jitable
def shown_slopes(slope: Floats, state: Floats, body: Any, fixed: tuple[Any, ...]) -> None:
    """Write the derivatives of what the monitor shows, [7, SIZE] full of zeros, of one patient."""
    stroke = stroke_slopes(state, body, fixed[4])
    scale = body.weight_kg / 70.0
    slope[0, _H], slope[5, _B], slope[6, _T] = 1.0, 1.0, 1.0
    for row, share in ((1, 0.0), (2, 2.0 / 3.0), (3, -1.0 / 3.0)):
        pulse = share / (_ARTERIAL_COMPLIANCE * scale)
        slope[row, _P] = 1.0 + pulse * stroke[3]
        slope[row, _H] = pulse * stroke[4]
        slope[row, _S] = -pulse * stroke[5] * _VEINS_ML_PER_MMHG * scale
        slope[row, _V] = pulse * stroke[5]
    mixed = mixed_slopes(state, body, fixed[1], stroke)
    for n in range(5):
        slope[4, n] = mixed[1 + n]
    slope[4, _T], slope[4, _SHUNTED] = mixed[6], mixed[7]
