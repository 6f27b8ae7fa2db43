"""Waveforms of the last seconds: pieces of samples in, what a bed's page has not seen yet out.

They are shown, not analysed, and not kept: what a device found in its waveform comes as an event of its
reading.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from digital_twins._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from digital_twins.monitoring.signals._association import AssociationLog

MAX_WAVEFORM_BYTES = 65_536
"""Longest message with a piece of a waveform."""
_KEPT_S, _LONGEST_S, _FUTURE_S, _OLD_S = 12.0, 10.0, 60.0, 60.0
_FASTEST_HZ = 1000.0
_MOST_SIGNALS = 4096
_JITTER_S = 0.02


@dataclass(frozen=True, slots=True)
class Waveform:
    """One row of the table of waveforms.

    Attributes
    ----------
    code
        Reference identifier of IEEE 11073-10101, such as ``"MDC_ECG_ELEC_POTL_II"``.
    mdc
        Its number; 0: none is known.
    name
        What a person reads.
    unit
        UCUM unit of the samples; ``"1"``: the signal has none.
    low, high
        What the page shows at the least, in `unit`; it widens when the signal goes beyond.
    """

    code: str
    mdc: int
    name: str
    unit: str
    low: float
    high: float


# MDC numbers: those marked were written from memory and not read in their source.
WAVEFORMS: dict[str, Waveform] = {
    each.code: each
    for each in (
        Waveform("MDC_ECG_ELEC_POTL_I", 131329, "ECG I", "mV", -0.5, 1.5),
        Waveform("MDC_ECG_ELEC_POTL_II", 131330, "ECG II", "mV", -0.5, 1.5),
        Waveform("MDC_ECG_ELEC_POTL_III", 131389, "ECG III", "mV", -0.5, 1.5),  # [verify]
        Waveform("MDC_ECG_ELEC_POTL_V", 0, "ECG V", "mV", -0.5, 1.5),
        Waveform("MDC_PRESS_BLD_ART_ABP", 150036, "Arterial pressure", "mm[Hg]", 40.0, 140.0),  # [verify]
        Waveform("MDC_PULS_OXIM_PLETH", 150452, "Plethysmogram", "1", 0.0, 1.0),
        Waveform("MDC_IMPED_TTHOR", 151780, "Respiration (impedance)", "Ohm", -1.0, 1.0),
    )
}
"""Waveforms by code, in the order in which a page shows them. Ranges are a choice of this project."""


class WaveformPiece(msgspec.Struct, frozen=True, gc=False):
    """Samples of one waveform that follow each other.

    Attributes
    ----------
    t
        Time of the first sample, seconds since 1970 UTC by the device's clock.
    c
        A code of `WAVEFORMS`.
    hz
        Samples a second.
    v
        Samples in the table's unit; None: there is none.
    """

    t: float
    c: str
    hz: float
    v: list[float | None]


_DECODER = msgspec.json.Decoder(WaveformPiece)


def decode_waveform(payload: bytes) -> WaveformPiece:
    """Return what ``{"t": seconds, "c": "MDC_ECG_ELEC_POTL_II", "hz": 250, "v": [0.1, ...]}`` says.

    Raises
    ------
    InputError
        It is too long, no JSON, not of this form, or of an unknown code or rate.
    """
    if len(payload) > MAX_WAVEFORM_BYTES:
        raise _refused(f"it has more than {MAX_WAVEFORM_BYTES} bytes")
    try:
        piece = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _refused("it is not of the documented form") from None
    if piece.c not in WAVEFORMS:
        raise _refused("its code is unknown")
    if not math.isfinite(piece.t) or not 1.0 <= piece.hz <= _FASTEST_HZ:
        raise _refused("its time or its rate cannot be used")
    if len(piece.v) > piece.hz * _LONGEST_S:
        raise _refused(f"it is longer than {_LONGEST_S:.0f} seconds")
    return piece


def _refused(why: str) -> InputError:
    return InputError(
        "The piece of a waveform was not taken.",
        f"It cannot be used: {why}.",
        'Send JSON such as {"t": 1764108000.0, "c": "MDC_ECG_ELEC_POTL_II", "hz": 250, "v": [0.1, 0.2]}.',
    )


class _Signal:
    """The last seconds of one waveform of one device, in a ring."""

    def __init__(self, waveform: Waveform, hz: float) -> None:
        self.waveform, self.hz = waveform, hz
        self.ring = np.full(max(1, int(hz * _KEPT_S)), np.nan, dtype=np.float32)
        self.count = 0
        self.end_s = -math.inf

    def put(self, samples: NDArray[np.float32]) -> None:
        size = len(self.ring)
        kept = samples[-size:]
        places = (self.count + len(samples) - len(kept) + np.arange(len(kept))) % size
        self.ring[places] = kept
        self.count += len(samples)

    def after(self, seen: int, since_s: float) -> tuple[int, NDArray[np.float32]]:
        """Return the number of the first sample that is new and not from before, and the samples from it."""
        held = min(self.count, len(self.ring))
        if math.isfinite(since_s):
            held = min(held, max(0, int((self.end_s - since_s) * self.hz)))
        first = max(seen, self.count - held)
        return first, self.ring[np.arange(first, self.count) % len(self.ring)]


class Waveforms:
    """The last twelve seconds of every waveform, by device.

    A sample belongs to the patient of whom its device spoke at its moment. A page sees a device's samples
    only while the device stands at that patient's bed, and none from before.

    Parameters
    ----------
    associations
        Which patient a device speaks of.
    devices
        Who may speak; None: every device that the transport let through.

    Attributes
    ----------
    counts
        taken, malformed, late, skewed, unauthorised, full.
    """

    def __init__(self, associations: AssociationLog, *, devices: AbstractSet[str] | None = None) -> None:
        self.associations, self.devices = associations, devices
        self.counts: Counter[str] = Counter()
        self.signals: dict[tuple[str, str], _Signal] = {}

    def take_message(self, topic: str, payload: bytes, *, received_s: float) -> bool:
        """Take a message of MQTT whose topic ends with the device; what cannot be used is counted."""
        try:
            piece = decode_waveform(payload)
        except InputError:
            self.counts["malformed"] += 1
        else:
            self.offer(topic.rpartition("/")[2], piece, received_s=received_s)
        return True

    def offer(self, device: str, piece: WaveformPiece, *, received_s: float) -> bool:
        """Take a piece; False: it was counted and let go.

        A piece must begin where the last one ended (within 20 ms and two samples): what begins earlier is
        late, what begins later leaves a gap.
        """
        if self.devices is not None and device not in self.devices:
            return self._let_go("unauthorised")
        if not -_OLD_S < piece.t - received_s < _FUTURE_S:
            return self._let_go("skewed")
        key = device, piece.c
        signal = self.signals.get(key)
        if signal is None and len(self.signals) >= _MOST_SIGNALS:
            return self._let_go("full")
        if signal is None or signal.hz != piece.hz:
            signal = self.signals[key] = _Signal(WAVEFORMS[piece.c], piece.hz)
        gap_s = piece.t - signal.end_s
        if gap_s < -max(_JITTER_S, 2.0 / piece.hz):
            return self._let_go("late")
        if _JITTER_S < gap_s < math.inf and gap_s > 2.0 / piece.hz:
            signal.put(np.full(int(min(gap_s, _KEPT_S) * piece.hz), np.nan, dtype=np.float32))
        signal.put(np.array(piece.v, dtype=np.float32))  # None becomes NaN
        signal.end_s = piece.t + len(piece.v) / piece.hz
        self.counts["taken"] += 1
        return True

    def codes(self, patient: str, *, now_s: float) -> list[tuple[str, str]]:
        """Return device and code of what is shown of a patient, in the order of the table.

        Of a waveform that two devices measure, the one that spoke last.
        """
        found: dict[str, tuple[str, str]] = {}
        for key, signal in self.signals.items():
            if now_s - signal.end_s > _OLD_S or self._since(key[0], patient, signal, now_s) is None:
                continue
            other = found.get(key[1])
            if other is None or self.signals[other].end_s < signal.end_s:
                found[key[1]] = key
        return [found[code] for code in WAVEFORMS if code in found]

    def fresh(self, patient: str, seen: dict[tuple[str, str], int], *, now_s: float) -> list[dict[str, Any]]:
        """Return what came since the last call, a table a waveform; `seen` keeps how far a viewer is.

        Keys: ``code, name, unit, low, high, hz``, ``t`` (time of the first sample) and ``v`` (samples; None
        is a gap).
        """
        told = []
        for key in self.codes(patient, now_s=now_s):
            signal = self.signals[key]
            since_s = self._since(key[0], patient, signal, now_s)
            if since_s is None:
                continue
            before = seen.get(key, 0)
            first, samples = signal.after(before if before <= signal.count else 0, since_s)
            seen[key] = signal.count
            if not len(samples):
                continue
            form = signal.waveform
            told.append(
                {
                    "code": form.code,
                    "name": form.name,
                    "unit": form.unit,
                    "low": form.low,
                    "high": form.high,
                    "hz": signal.hz,
                    "t": round(signal.end_s - (signal.count - first) / signal.hz, 4),
                    "v": [None if math.isnan(each) else round(each, 4) for each in samples.tolist()],
                }
            )
        return told

    def _since(self, device: str, patient: str, signal: _Signal, now_s: float) -> float | None:
        """Since when the device speaks of the patient; None: it does not, now or at the end of the signal."""
        whose, since_s, until_s = self.associations.patient_between(device, signal.end_s)
        return since_s if whose == patient and until_s > now_s else None

    def _let_go(self, why: str) -> bool:
        self.counts[why] += 1
        return False
