"""Waveforms of virtual patients, drawn from their vital signs; simulated, and labelled so wherever shown.

The ECG is a sum of Gaussian bumps over the phase of the beat, after McSharry et al. 2003
(doi:10.1109/TBME.2003.808805, whose centres and relative widths are used; the heights are a choice of this
project). Pulse and breath are shapes of this project: they are to be looked at, not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring.signals import WaveformPiece

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ECG_HZ, SLOW_HZ = 250.0, 125.0
"""Samples a second of the ECG, and of pressure, plethysmogram and respiration."""
_CENTRE = np.array([-np.pi / 3, -np.pi / 12, 0.0, np.pi / 12, np.pi / 2])
_WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
_HEIGHT_MV = np.array([0.12, -0.1, 1.0, -0.22, 0.28])
_NOISE_MV = 0.01


class SimulatedWaveforms:
    """Waveforms of one virtual patient that go on from piece to piece.

    Parameters
    ----------
    seed
        Of the noise on the ECG.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._beat = self._breath = 0.0

    def piece(self, start_s: float, seconds: float, values: Mapping[str, float]) -> list[WaveformPiece]:
        """Return the next seconds of each waveform; a rate that is missing or 0 gives a flat line.

        Parameters
        ----------
        start_s
            Time of the first sample (s).
        seconds
            How long.
        values
            ``HR, RR`` (/min), ``ART_SYS, ART_DIA`` (mm[Hg]) as far as they are known.
        """
        heart_hz, breath_hz = values.get("HR", 0.0) / 60.0, values.get("RR", 0.0) / 60.0
        fast, slow = np.arange(seconds * ECG_HZ) / ECG_HZ, np.arange(seconds * SLOW_HZ) / SLOW_HZ
        ecg = _ecg(self._beat + heart_hz * fast) if heart_hz > 0 else np.zeros(len(fast))
        pulse = _pulse(self._beat + heart_hz * slow) if heart_hz > 0 else np.zeros(len(slow))
        breath = (
            np.sin(2 * np.pi * (self._breath + breath_hz * slow)) if breath_hz > 0 else np.zeros(len(slow))
        )
        found = {
            "MDC_ECG_ELEC_POTL_II": (ECG_HZ, ecg + _NOISE_MV * self._rng.standard_normal(len(fast))),
            "MDC_PULS_OXIM_PLETH": (SLOW_HZ, pulse * 0.9),
            "MDC_IMPED_TTHOR": (SLOW_HZ, 0.7 * breath),
        }
        if {"ART_SYS", "ART_DIA"} <= values.keys():
            low, high = values["ART_DIA"], values["ART_SYS"]
            found["MDC_PRESS_BLD_ART_ABP"] = SLOW_HZ, low + (high - low) * pulse
        self._beat = (self._beat + heart_hz * seconds) % 1.0
        self._breath = (self._breath + breath_hz * seconds) % 1.0
        return [WaveformPiece(start_s, code, hz, each.tolist()) for code, (hz, each) in found.items()]


def _ecg(beats: Floats) -> Floats:
    """Millivolts over the phase of the beat, whose R wave is at half of it."""
    angle = 2 * np.pi * (beats % 1.0) - np.pi
    bumps: Floats = _HEIGHT_MV * np.exp(-0.5 * ((angle[:, None] - _CENTRE) / _WIDTH) ** 2)
    total: Floats = bumps.sum(axis=1)
    return total


def _pulse(beats: Floats) -> Floats:
    """A pulse between 0 and 1 with a dicrotic bump, behind the R wave by a fifth of a beat."""
    phase = (beats - 0.7) % 1.0
    peak = np.exp(-0.5 * ((phase - 0.18) / 0.075) ** 2)
    bump = 0.35 * np.exp(-0.5 * ((phase - 0.45) / 0.09) ** 2)
    return np.minimum(peak + bump, 1.0)
