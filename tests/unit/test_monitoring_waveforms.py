"""Waveforms: whose a sample is, gaps, bounds; a real ECG comes out of the HTTP door as it went in."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import httpx
import numpy as np
import pytest

from digital_twins._errors import InputError
from digital_twins.monitoring import (
    AssociationLog,
    MonitorService,
    SimulatedWaveforms,
    StaffMember,
    VirtualWard,
    WaveformPiece,
    Waveforms,
    decode_waveform,
    monitor_app,
)

ECG, PLETH = "MDC_ECG_ELEC_POTL_II", "MDC_PULS_OXIM_PLETH"
T = 1_764_064_500.0


def beds() -> AssociationLog:
    log = AssociationLog()
    log.place_device("D1", "B1", since_s=0.0)
    log.admit("P1", "B1", since_s=0.0)
    return log


def piece(t: float, values: list[float | None], code: str = ECG, hz: float = 100.0) -> WaveformPiece:
    return WaveformPiece(t, code, hz, values)


def test_samples_follow_each_other_and_a_viewer_gets_each_once() -> None:
    waves, seen = Waveforms(beds()), dict[tuple[str, str], int]()
    waves.offer("D1", piece(T, [0.0, 0.1, None]), received_s=T)
    waves.offer("D1", piece(T + 0.03, [0.3]), received_s=T)
    (first,) = waves.fresh("P1", seen, now_s=T + 0.1)
    assert (first["name"], first["unit"], first["hz"], first["t"]) == ("ECG II", "mV", 100.0, T)
    assert first["v"] == [0.0, 0.1, None, 0.3]
    assert waves.fresh("P1", seen, now_s=T + 0.1) == []
    waves.offer("D1", piece(T + 0.04, [0.4]), received_s=T)
    assert waves.fresh("P1", seen, now_s=T + 0.1)[0]["v"] == [0.4]
    assert waves.fresh("P1", {}, now_s=T + 0.1)[0]["v"] == [0.0, 0.1, None, 0.3, 0.4]


def test_a_gap_stays_a_gap_and_the_past_is_not_drawn_over() -> None:
    waves = Waveforms(beds())
    waves.offer("D1", piece(T, [1.0] * 10), received_s=T)
    waves.offer("D1", piece(T + 0.2, [2.0] * 10), received_s=T)
    assert not waves.offer("D1", piece(T + 0.1, [9.0] * 10), received_s=T)
    assert waves.counts == {"taken": 2, "late": 1}
    assert waves.fresh("P1", {}, now_s=T + 0.3)[0]["v"] == [1.0] * 10 + [None] * 10 + [2.0] * 10


def test_only_the_last_seconds_are_kept() -> None:
    waves = Waveforms(beds())
    for second in range(40):
        waves.offer("D1", piece(T + second, [float(second)] * 100), received_s=T + second)
    (told,) = waves.fresh("P1", {}, now_s=T + 40)
    assert len(told["v"]) == 1200
    assert (told["t"], told["v"][0], told["v"][-1]) == (T + 28, 28.0, 39.0)


def test_a_transfer_shows_no_sample_of_the_other_patient() -> None:
    log = beds()
    waves = Waveforms(log)
    waves.offer("D1", piece(T, [1.0] * 100), received_s=T)
    log.discharge("B1", since_s=T + 1)
    assert waves.fresh("P1", {}, now_s=T + 1.5) == []  # the device is nobody's now
    log.admit("P2", "B1", since_s=T + 1.5)
    waves.offer("D1", piece(T + 1, [2.0] * 100), received_s=T + 2)
    assert waves.fresh("P1", {}, now_s=T + 2) == []
    assert waves.fresh("P2", {}, now_s=T + 2)[0]["v"] == [2.0] * 50


def test_of_two_devices_the_one_that_spoke_last_is_shown() -> None:
    log = beds()
    log.place_device("D2", "B1", since_s=0.0)
    waves = Waveforms(log)
    waves.offer("D2", piece(T, [2.0]), received_s=T)
    waves.offer("D1", piece(T + 1, [1.0]), received_s=T + 1)
    waves.offer("D2", piece(T, [3.0], PLETH), received_s=T)
    assert waves.codes("P1", now_s=T + 1) == [("D1", ECG), ("D2", PLETH)]


def test_what_cannot_be_used_is_counted() -> None:
    waves = Waveforms(beds(), devices={"D1"})
    waves.offer("D9", piece(T, [1.0]), received_s=T)
    waves.offer("D1", piece(T + 61, [1.0]), received_s=T)
    waves.offer("D1", piece(T - 61, [1.0]), received_s=T)
    assert waves.take_message("waveforms/D1", b"{", received_s=T)
    assert waves.take_message("waveforms/D1", b'{"\xff": 1}', received_s=T)  # no UTF-8 inside of a text
    assert waves.counts == {"unauthorised": 1, "skewed": 2, "malformed": 2}
    assert waves.fresh("P1", {}, now_s=T) == []


@pytest.mark.parametrize(
    "text",
    [
        b'{"t": 1, "c": "MDC_ECG_ELEC_POTL_II", "hz": 250, "v": "x"}',
        b'{"t": 1, "c": "HR", "hz": 250, "v": [1]}',
        b'{"t": 1, "c": "MDC_ECG_ELEC_POTL_II", "hz": 0.5, "v": [1]}',
        b'{"t": 1, "c": "MDC_ECG_ELEC_POTL_II", "hz": 2000, "v": [1]}',
        b'{"t": 1, "c": "MDC_ECG_ELEC_POTL_II", "hz": 1, "v": [1,1,1,1,1,1,1,1,1,1,1]}',
        b"[" * 5000,
        b" " * 70_000,
    ],
)
def test_a_bad_piece_is_refused_with_the_form(text: bytes) -> None:
    with pytest.raises(InputError, match="was not taken"):
        decode_waveform(text)


def test_a_simulated_beat_has_the_rate_that_it_was_given() -> None:
    drawn = SimulatedWaveforms(0)
    values = {"HR": 90.0, "RR": 15.0, "ART_SYS": 120.0, "ART_DIA": 80.0}
    pieces = [each for n in range(10) for each in drawn.piece(3.0 * n, 3.0, values)]
    ecg = np.concatenate([each.v for each in pieces if each.c == ECG])
    high = ecg > 0.6
    assert np.count_nonzero(high[1:] & ~high[:-1]) == 45  # 30 s at 90 a minute, none lost between pieces
    pressure = np.concatenate([each.v for each in pieces if each.c == "MDC_PRESS_BLD_ART_ABP"])
    assert (pressure.min(), pressure.max()) == (pytest.approx(80, abs=1), pytest.approx(120, abs=1))
    flat = SimulatedWaveforms(0).piece(0.0, 3.0, {"HR": 0.0})
    assert np.ptp(np.array(next(each.v for each in flat if each.c == PLETH))) == 0


def test_the_virtual_ward_has_waveforms() -> None:
    ward = VirtualWard()
    for _ in range(5):
        ward.step()
    told = ward.waveforms.fresh(ward.profiles[0].patient, {}, now_s=ward.now_s)
    assert {each["code"] for each in told} >= {ECG, PLETH, "MDC_IMPED_TTHOR"}
    assert all(math.isclose(each["t"] + len(each["v"]) / each["hz"], 15.0, abs_tol=0.01) for each in told)


def test_a_real_record_comes_out_as_it_went_in(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "monitor" / "wfdb" / "alarms"
    raw = np.fromfile(folder / "a103l.mat", dtype="<i2", offset=24).reshape(-1, 3)[:2500]
    gain = float((folder / "a103l.hea").read_text().splitlines()[1].split()[2].partition("/")[0])
    ecg = raw[:, 0] / gain
    now_s = [T]
    service = MonitorService(tmp_path, capacity=1, clock=lambda: now_s[0])
    service.associations.place_device("D1", "B1", since_s=0.0)
    service.associations.admit("P1", "B1", since_s=0.0)
    app = monitor_app(service, devices={"D1": "one"}, staff={"n": StaffMember("N. N.", "nurse")})

    async def send() -> list[int]:
        answers = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
            for second in range(10):
                now_s[0] = T + second + 1
                values = ecg[250 * second : 250 * (second + 1)].tolist()
                body = json.dumps({"t": T + second, "c": ECG, "hz": 250, "v": values})
                for secret in ("one", "two"):
                    shown = {"Authorization": f"Bearer {secret}"}
                    answers.append(
                        (await client.post("/waveforms/D1", content=body, headers=shown)).status_code
                    )
        return answers

    try:
        assert asyncio.run(send()) == [202, 401] * 10
        (told,) = service.waveforms.fresh("P1", {}, now_s=T + 10)
        assert told["t"] == T
        np.testing.assert_allclose(told["v"], ecg, atol=6e-5)  # told with four decimals
    finally:
        service.close()
