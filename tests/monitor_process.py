"""`twin monitor serve` as a process of a test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

NURSE, DEVICE = {"Authorization": "Bearer n"}, {"Authorization": "Bearer one"}


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Served:
    """`twin monitor serve` as a process."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        environment: dict[str, str] | None = None,
        devices: dict[str, str] | None = None,
    ) -> None:
        (folder / "devices.yaml").write_text(json.dumps(devices or {"D1": "one"}), encoding="utf-8")
        (folder / "staff.yaml").write_text("n: {name: N. N., role: nurse}\n", encoding="utf-8")
        command = [sys.executable, "-m", "digital_twins.cli", "monitor", "serve", "--json"]
        command += ["--devices", str(folder / "devices.yaml"), "--staff", str(folder / "staff.yaml")]
        command += ["--data", str(folder / "data"), "--http-port", "0", "--mqtt-port", "0", "--capacity", "4"]
        environment = {**os.environ, **(environment or {})}
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *words], stdout=subprocess.PIPE, stderr=log, env=environment, text=True,
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if text.rstrip().endswith("}"):
                break
        self.ports: dict[str, int] = json.loads(text)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['http']}", timeout=60)

    def admit(self, device: str, patient: str) -> None:
        """Place a device, and a patient in its bed."""
        for kind, subject, target in (("device", device, "B1"), ("bed", "B1", patient)):
            body = {"kind": kind, "subject": subject, "target": target, "since_s": 0}
            self.client.post("/associations", json=body, headers=NURSE).raise_for_status()

    def end(self) -> None:
        """End it by Ctrl-C: it writes what it has."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=120)
        self.client.close()

    def kill(self) -> None:
        """End it and its broker by SIGKILL, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.client.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def alerts(self) -> dict[str, dict[str, object]]:
        return {each["key"]: each for each in self.client.get("/alerts", headers=NURSE).json()}
