"""Beat-averaged circulation with baroreflex, gas exchange and heat: eight states and five slow parameters.

Circulation: an arterial and a venous compartment, the stroke volume after Frank and Starling, the arterial
baroreflex with the gains of Heldt 2002 (doi:10.1152/japplphysiol.00241.2001), read in the startup file of the
CVSim lineage. Gas: one alveolar space, a shunt, and the dissociation curve of Severinghaus 1979
(doi:10.1152/jappl.1979.46.3.599). Heat: first order towards a set point. docs/science/monitoring.md has the
equations; every constant that was not read in a source is marked there and below.

The law is written once: numpy runs it for arrays, `_kernels` compiles the same functions for numbers; its
derivatives stand in `_slopes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STATES = (
    "arterial_pressure_mmhg",
    "heart_rate_per_min",
    "sympathetic_mmhg",
    "blood_volume_ml",
    "alveolar_oxygen_mmhg",
    "arterial_co2_mmhg",
    "respiratory_rate_per_min",
    "temperature_cel",
)
"""The eight states, in order."""

SLOW = ("log_vascular_tone", "log_shunt", "log_drive", "set_point_cel", "log_pacemaker")
"""Slow parameters that the twin learns beside them; the logarithms of ratios are 0 in health."""

OBSERVED = ("HR", "MAP", "SYS", "DIA", "SPO2", "RR", "TEMP")
"""What `observe` returns, in order: /min, mmHg, mmHg, mmHg, %, /min, Celsius."""

SIZE = len(STATES) + len(SLOW)
LONGEST_STEP_S = 1.1
_BLOOD_ML_PER_KG = 70.0
_SCALE_MMHG = 18.0  # baroreflex, Heldt 2002
_INTERVAL_S_PER_MMHG = 0.009  # gain of each branch on the beat interval, Heldt 2002
_RESISTANCE_PER_MMHG = 0.05  # mmHg s/ml a mmHg, Heldt 2002
_VEINS_ML_PER_MMHG = 27.0  # 5 + 2 + 13 + 7 of the four venous compartments, Heldt 2002
_ARTERIAL_COMPLIANCE = 1.6  # ml/mmHg at 70 kg; the arteries of MIT-LCP/cvsim (initial.c) add up to 1.4
_VENOUS_COMPLIANCE = 100.0  # ml/mmHg at 70 kg; the systemic veins there add up to 95
_FILLING_MMHG = 5.0  # venous pressure in health, and half saturation of the stroke volume [chosen]
_LEAST_RUNOFF_S = 0.65  # resistance times compliance: 540 dyn s/cm5 at 70 kg, deep vasoplegia [chosen]
_SYSTOLE_S, _FILLING_S = (
    0.2,
    0.15,
)  # of a beat, the part that fills nothing, and how fast the rest fills [chosen]
_SYMPATHETIC_S = 15.0  # [chosen]
_HEART_S = 2.0  # [chosen]
_BREATH_S = 20.0  # [chosen]
_HEAT_S = 2400.0  # [chosen]
_LEAK_S = 3600.0  # a surplus of volume leaves the vessels [chosen]
_CO2_STORE_L = 15.0  # half of a change in 2.4 min; Farhi and Rahn 1955 measured 4 min in dogs
_LUNG_L = 3.0  # half of a change in 0.5 min, as they measured
_GAS = 863.0  # mmHg: BTPS/STPD factor of the alveolar gas equation
_WATER_MMHG = 47.0
_SEA_MMHG = 760.0
_OXYGEN_ML_PER_G = 1.34
_CO2_DRIVE_PER_MMHG = 0.1  # share of the rate a mmHg of carbon dioxide [chosen]
_HYPOXIC_DRIVE = 0.03  # share of the rate a per cent of saturation under the next value [chosen]
_HYPOXIC_FROM = 96.5  # [chosen]
_FEVER_HEART = 8.5  # beats/min a degree; 7.2 (men) and 9.5 (women) of 9,046 ICU patients
_FEVER_BREATH = 1.5  # breaths/min a degree; 1.4 of 4,493 patients, doi:10.52964/amja.0766
_FEVER_METABOLISM = 0.1  # a degree [chosen]
_SHUNT = 0.03  # in health [chosen]
_MOST_SHUNT = 0.6


@dataclass(frozen=True, eq=False)
class Body:
    """What a patient is like in health; numbers, or arrays [patient].

    Attributes
    ----------
    weight_kg, heart_rate_per_min, mean_pressure_mmhg, respiratory_rate_per_min, temperature_cel
        At rest.
    haemoglobin_g_dl
        Oxygen carrier.
    """

    weight_kg: float | Floats = 70.0
    heart_rate_per_min: float | Floats = 72.0
    mean_pressure_mmhg: float | Floats = 93.0
    respiratory_rate_per_min: float | Floats = 14.0
    temperature_cel: float | Floats = 37.0
    haemoglobin_g_dl: float | Floats = 14.0

    def rows(self, rows: NDArray[np.intp]) -> Body:
        """Return the bodies of some patients, of arrays."""
        return Body(**{name: np.asarray(getattr(self, name))[rows] for name in self.__dataclass_fields__})

    @property
    def blood_volume_ml(self) -> float | Floats:
        """70 ml/kg."""
        return _BLOOD_ML_PER_KG * self.weight_kg


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is done to a patient; numbers, or arrays [patient].

    Attributes
    ----------
    oxygen_fraction
        Of the inspired gas, 0.21 to 1.
    fluid_ml_per_min
        Into the vessels; a bleeding is negative.
    vasopressor
        Factor on the vascular resistance, 1 without.
    """

    oxygen_fraction: float | Floats = 0.21
    fluid_ml_per_min: float | Floats = 0.0
    vasopressor: float | Floats = 1.0


def resting_state(body: Body, count: int) -> Floats:
    """Return the steady state of health, [SIZE, count]."""
    state = np.zeros((SIZE, count))
    state[0], state[1], state[3] = body.mean_pressure_mmhg, body.heart_rate_per_min, body.blood_volume_ml
    state[4] = 0.21 * (_SEA_MMHG - _WATER_MMHG) - 40.0 / 0.8
    state[5], state[6], state[7] = 40.0, body.respiratory_rate_per_min, body.temperature_cel
    state[11] = body.temperature_cel
    return state


def derivative(state: Floats, body: Body, inputs: Inputs) -> Floats:
    """Return the change a second of a state, [SIZE, ...]; the slow parameters stay as they are."""
    change = np.zeros_like(state)
    changes(change, state, body, inputs, unmoved(state, body))
    return change


@register_jitable
def unmoved(state: Floats, body: Any) -> tuple[Floats, ...]:
    """Return what a step does not change: ratios of tone, shunt, drive, pacemaker; filling at rest."""
    return (
        np.exp(state[8]),
        np.exp(state[9]),
        np.exp(state[10]),
        np.exp(state[12]),
        _filled(body.heart_rate_per_min),
    )


@register_jitable
def changes(change: Floats, state: Floats, body: Any, inputs: Any, fixed: tuple[Floats, ...]) -> None:
    """Write the changes of the eight states; body and inputs hold arrays, or numbers when compiled."""
    pressure, heart, sympathetic, volume = state[0], state[1], state[2], state[3]
    oxygen, co2, breath, heat = state[4], state[5], state[6], state[7]
    tone, drive = fixed[0] * inputs.vasopressor, fixed[2]
    error = _SCALE_MMHG * np.arctan((pressure - body.mean_pressure_mmhg) / _SCALE_MMHG)
    venous, stroke = _stroke(state, body, fixed[4])
    flow = heart / 60.0 * stroke
    resting = _resistance(body)
    scale = body.weight_kg / 70.0
    resistance = tone * np.maximum(resting - _RESISTANCE_PER_MMHG * sympathetic, 0.3 * resting)
    resistance = np.maximum(resistance, _LEAST_RUNOFF_S / (_ARTERIAL_COMPLIANCE * scale))
    change[0] = (flow - (pressure - venous) / resistance) / (_ARTERIAL_COMPLIANCE * scale)
    warm = heat - body.temperature_cel
    interval = 60.0 / (fixed[3] * body.heart_rate_per_min) + _INTERVAL_S_PER_MMHG * (error + sympathetic)
    change[1] = (60.0 / np.maximum(interval, 0.27) + _FEVER_HEART * warm - heart) / _HEART_S
    change[2] = (error - sympathetic) / _SYMPATHETIC_S
    surplus = np.maximum(volume - _BLOOD_ML_PER_KG * body.weight_kg, 0.0)
    change[3] = inputs.fluid_ml_per_min / 60.0 - surplus / _LEAK_S
    uptake, output = _metabolism(warm, scale)
    ventilation = breath / body.respiratory_rate_per_min * _GAS * 0.2 * scale / 40.0
    inspired = inputs.oxygen_fraction * (_SEA_MMHG - _WATER_MMHG)
    change[4] = (ventilation * (inspired - oxygen) - _GAS * uptake) / (60.0 * _LUNG_L * scale)
    change[5] = (_GAS * output - ventilation * co2) / (60.0 * _CO2_STORE_L * scale)
    lack = np.maximum(_HYPOXIC_FROM - _mixed(state, body, flow, fixed[1]), 0.0)
    wish = 1.0 + _CO2_DRIVE_PER_MMHG * (co2 - 40.0) + _HYPOXIC_DRIVE * lack
    target = (
        drive * np.minimum(np.maximum(wish, 0.0), 3.0) * body.respiratory_rate_per_min + _FEVER_BREATH * warm
    )
    change[6] = (np.maximum(target, 0.0) - breath) / _BREATH_S
    change[7] = (state[11] - heat) / _HEAT_S


def observe(state: Floats, body: Body) -> Floats:
    """Return what the monitor would show for states [SIZE, ...], as `OBSERVED`, [7, ...]."""
    return np.stack(shown(state, body, unmoved(state, body)))


@register_jitable
def shown(state: Floats, body: Any, fixed: tuple[Floats, ...]) -> tuple[Floats, ...]:
    _, stroke = _stroke(state, body, fixed[4])
    pressure = state[0]
    pulse = stroke / (_ARTERIAL_COMPLIANCE * body.weight_kg / 70.0)
    saturation = _mixed(state, body, state[1] / 60.0 * stroke, fixed[1])
    return (
        state[1],
        pressure,
        pressure + pulse * 2 / 3,
        pressure - pulse / 3,
        saturation,
        state[6],
        state[7],
    )


@register_jitable
def _resistance(body: Any) -> float | Floats:
    flow = body.heart_rate_per_min / 60.0 * body.weight_kg  # a stroke volume of 1 ml/kg [chosen]
    resistance: float | Floats = (body.mean_pressure_mmhg - _FILLING_MMHG) / flow
    return resistance


@register_jitable
def _stroke(state: Floats, body: Any, at_rest: float | Floats) -> tuple[Floats, Floats]:
    """Return venous pressure and stroke volume (ml)."""
    scale = body.weight_kg / 70.0
    venous_compliance, arterial_compliance = _VENOUS_COMPLIANCE * scale, _ARTERIAL_COMPLIANCE * scale
    filled = (
        state[3]
        - _BLOOD_ML_PER_KG * body.weight_kg
        - arterial_compliance * (state[0] - body.mean_pressure_mmhg)
    )
    filled = filled - _VEINS_ML_PER_MMHG * scale * state[2]
    venous = np.maximum(_FILLING_MMHG + filled / venous_compliance, 0.2)
    stroke = 2.0 * body.weight_kg * venous / (venous + _FILLING_MMHG)
    return venous, stroke * _filled(state[1]) / at_rest


@register_jitable
def _filled(heart: float | Floats) -> Floats:
    """Return the share of the ventricle that fills between two beats."""
    filling_s = np.maximum(60.0 / np.maximum(heart, 1.0) - _SYSTOLE_S, 0.02)
    share: Floats = -np.expm1(-filling_s / _FILLING_S)
    return share


@register_jitable
def _metabolism(warm: Floats, scale: float | Floats) -> tuple[Floats, Floats]:
    """Return oxygen uptake and carbon dioxide output (l/min STPD)."""
    uptake = 0.25 * scale * (1.0 + _FEVER_METABOLISM * warm)
    return uptake, 0.8 * uptake


def _saturation(state: Floats, body: Any, flow_ml_s: Floats) -> Floats:
    """Return the arterial saturation (%) of a state."""
    return _mixed(state, body, flow_ml_s, np.exp(state[9]))


@register_jitable
def _mixed(state: Floats, body: Any, flow_ml_s: Floats, shunted: Floats) -> Floats:
    """Return the arterial saturation (%): end-capillary blood mixed with shunted venous blood."""
    tension = np.maximum(state[4], 1.0)
    capillary = 1.0 / (23400.0 / (tension**3 + 150.0 * tension) + 1.0)
    shunt = np.minimum(_SHUNT * shunted, _MOST_SHUNT)
    uptake, _ = _metabolism(state[7] - body.temperature_cel, body.weight_kg / 70.0)
    # ml of oxygen that a decilitre of blood gives off, as a share of what it carries when full
    drop = uptake * 1000.0 / (np.maximum(flow_ml_s, 5.0) * 0.6) / (_OXYGEN_ML_PER_G * body.haemoglobin_g_dl)
    saturation: Floats = 100.0 * np.minimum(np.maximum(capillary - shunt / (1.0 - shunt) * drop, 0.0), 1.0)
    return saturation


def advance(state: Floats, body: Body, inputs: Inputs, *, dt_s: float | Floats) -> Floats:
    """Return the state `dt_s` seconds later by Heun's method in steps of at most 1.1 s, [SIZE, ...]."""
    count = max(1, int(np.ceil(np.max(dt_s) / LONGEST_STEP_S - 1e-9)))
    step = np.asarray(dt_s) / count
    for _ in range(count):
        slope = derivative(state, body, inputs)
        state = state + step / 2.0 * (slope + derivative(state + step * slope, body, inputs))
    return state
