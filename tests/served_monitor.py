"""A monitor behind its HTTP API on 127.0.0.1, in a thread of its own, for tests of what asks it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from digital_twins.monitoring import (
    AnomalyDetector,
    Association,
    MonitorService,
    Reading,
    StaffMember,
    monitor_app,
)

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_764_064_500.0
READINGS = 1200
STEADY = {"NIBP_SYS": 85.0, "NIBP_MEAN": 60.0, "SPO2": 97.0, "RR": 15.0, "TEMP": 37.0}
STAFF = {"n": StaffMember("N. N.", "nurse")}


class ServedMonitor:
    """A monitor of one patient with twenty minutes of readings, the first ten only in files, over HTTP."""

    def __init__(self, folder: Path) -> None:
        import uvicorn

        self.now_s = NOW_S - READINGS
        self.service = MonitorService(
            folder, capacity=2, clock=lambda: self.now_s, detectors=(AnomalyDetector("isolation_forest"),)
        )
        self.service.associate(Association("device", "D1", "ICU-1", 0.0))
        self.service.associate(Association("bed", "ICU-1", "SIM-1", 0.0))
        rng = np.random.default_rng(0)
        self.heart = 75.0 + rng.standard_normal(READINGS)
        self.heart[300] = 119.0
        for n, rate in enumerate(self.heart):
            at_s = NOW_S - READINGS + 1 + n
            values = {
                "HR": float(rate),
                "NIBP_SYS": 85.0,
                "NIBP_MEAN": 60.0,
                "SPO2": 97.0,
                "RR": 15.0,
                "TEMP": 37.0,
            }
            self.service.intake.offer(Reading("D1", at_s, values, ()), received_s=at_s)
            self.now_s = at_s
            if n % 100 == 99:
                self.service.work()
        app = monitor_app(self.service, devices={}, staff=STAFF)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        end = time.monotonic() + 60
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        self.service.close()
