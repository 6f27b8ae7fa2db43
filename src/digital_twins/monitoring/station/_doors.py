"""HTTP and WebSocket doors of the monitor, as Starlette routes: readings in, tiles and alerts out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse

from digital_twins.monitoring.ingest import MAX_BYTES
from digital_twins.monitoring.station._entrance import Entrance, body_of, decoded, doors_app, malformed
from digital_twins.monitoring.station._page import bed_page, trends, what_if
from digital_twins.monitoring.station._people import People
from digital_twins.monitoring.station._review import filed_readings, history_view, models_view, rules_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request

    from digital_twins.monitoring.engine import PatientMonitor
    from digital_twins.monitoring.ingest import Intake
    from digital_twins.monitoring.signals import Association, AssociationLog, Reading, Waveforms
    from digital_twins.monitoring.station._people import StaffMember
    from digital_twins.monitoring.storage import AccessTrail, History

_TREND_S = 300.0


class Watched(Protocol):
    """What stands behind the doors: a running monitor, or the virtual ward."""

    synthetic: bool
    monitor: PatientMonitor
    intake: Intake
    waveforms: Waveforms

    @property
    def history(self) -> History | None:
        """Files of all readings; None: nothing is kept."""

    def clock(self) -> float:
        """Return the time, in seconds since 1970 UTC or since the ward's start."""

    def associate(self, entry: Association) -> None:
        """Place a device or a patient."""

    async def durable(self) -> None:
        """Return once what was taken and done is durable."""


class Doors(Entrance):
    """What each route does.

    Parameters
    ----------
    service
        What is served.
    devices
        Password of each device.
    people
        Who may look.
    """

    def __init__(self, service: Watched, devices: Mapping[str, str], people: People) -> None:
        super().__init__(
            devices,
            people,
            may_acknowledge=service.monitor.thresholds.may_acknowledge,
            synthetic=service.synthetic,
            waves=(service.waveforms, service.clock),
        )
        self.service = service

    async def take(self, readings: Sequence[Reading]) -> bool:
        """Take readings and return once they are durable; False: there is no room now."""
        for each in readings:
            if not self.service.intake.offer(each, received_s=self.service.clock()):
                return False
        await self.service.durable()
        return True

    async def stream_one(self, reading: Reading) -> None:
        """Take a reading of a stream once there is room."""
        while not self.service.intake.offer(reading, received_s=self.service.clock()):
            await asyncio.sleep(0.1)

    async def place(self, entry: Association) -> None:
        """Add an association, durably."""
        self.service.associate(entry)

    async def placed(self) -> AssociationLog:
        """Return the associations as of now."""
        return self.service.intake.associations

    async def tiles(self) -> dict[str, Any]:
        """Return the tiles of all beds."""
        now_s = self.service.clock()
        monitor = self.service.monitor
        return {
            "at_s": now_s,
            "patients": [monitor.view(each, now_s=now_s) for each in list(monitor.patients)],
            "counts": dict(self.service.intake.counts),
        }

    async def alerts(self, request: Request) -> JSONResponse:
        """List the open alerts."""
        self.member(request)
        return JSONResponse([each.to_dict() for each in self.service.monitor.alerts.open_alerts()])

    async def acknowledge(self, request: Request) -> JSONResponse:
        """Acknowledge one."""
        member = self.member(request)
        alert = self.service.monitor.alerts.acknowledge(
            int(request.path_params["alert"]), by=member.name, role=member.role, at_s=self.service.clock()
        )
        await self.service.durable()
        return JSONResponse(alert.to_dict())

    async def shelve(self, request: Request) -> JSONResponse:
        """Shelve a rule."""
        member = self.member(request)
        data = decoded(await body_of(request, MAX_BYTES))
        try:
            patient, key, for_s = str(data["patient"]), str(data["key"]), float(data["for_s"])
        except (KeyError, TypeError, ValueError):
            raise malformed() from None
        self.service.monitor.alerts.shelve(
            patient, key, by=member.name, role=member.role, at_s=self.service.clock(), for_s=for_s
        )
        await self.service.durable()
        return JSONResponse({"shelved": key})

    async def trends(self, request: Request) -> JSONResponse:
        """Return five minutes of one vital sign."""
        self.member(request)
        now_s = self.service.clock()
        code = request.query_params.get("code", "HR")
        found = trends(self.service.monitor, code, since_s=now_s - _TREND_S)
        return JSONResponse({"code": code, "at_s": now_s, "patients": found})

    async def history(self, request: Request) -> JSONResponse:
        """Return hours of a patient."""
        self.member(request)
        asked = request.query_params
        try:
            since_s, until_s = float(asked["since_s"]), float(asked["until_s"])
            patient, codes = asked["patient"], asked["codes"].split(",")
        except (KeyError, ValueError):
            raise malformed() from None
        span: dict[str, Any] = {"patient": patient, "since_s": since_s, "until_s": until_s}
        filed = await asyncio.to_thread(filed_readings, self.service.history, codes=codes, **span)
        found = history_view(self.service.monitor, filed, **span)
        return JSONResponse(found)

    async def thresholds(self, request: Request) -> JSONResponse:
        """Return the rules in force."""
        self.member(request)
        return JSONResponse(rules_view(self.service.monitor))

    async def models(self, request: Request) -> JSONResponse:
        """Return the models that run."""
        self.member(request)
        return JSONResponse(models_view(self.service.monitor))

    async def bed(self, request: Request) -> JSONResponse:
        """Return all of one patient."""
        self.member(request)
        patient = request.path_params["patient"]
        return JSONResponse(bed_page(self.service.monitor, patient, now_s=self.service.clock()))

    async def what_if(self, request: Request) -> JSONResponse:
        """Return outlooks."""
        self.member(request)
        data = decoded(await body_of(request, MAX_BYTES))
        return JSONResponse(what_if(self.service.monitor, request.path_params["patient"], data))


def monitor_app(
    service: Watched,
    *,
    devices: Mapping[str, str],
    staff: Mapping[str, StaffMember],
    trail: AccessTrail | None = None,
) -> Starlette:
    """Return the HTTP application of a running monitor.

    Parameters
    ----------
    service
        What it serves.
    devices
        Password of each device.
    staff
        Token to name and role.
    trail
        Gets one event of each access to a patient; None: nothing is written.
    """
    return doors_app(Doors(service, devices, People(staff)), trail)
