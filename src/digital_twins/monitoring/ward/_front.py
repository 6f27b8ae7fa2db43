"""The front of a divided ward: one address for people and devices, whichever worker watches a patient."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from digital_twins._errors import ConflictError, DigitalTwinError
from digital_twins.monitoring.alerts import Priority
from digital_twins.monitoring.ingest import MAX_BYTES
from digital_twins.monitoring.parts import Homes, device_part, send_lines, told_since
from digital_twins.monitoring.signals import AssociationLog, Waveforms
from digital_twins.monitoring.station import Entrance, StaffMember, body_of, decoded, malformed
from digital_twins.monitoring.storage import Line, line_of
from digital_twins.monitoring.ward._switchboard import ANSWER_S, PartAwayError, Switchboard, part_away

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set as AbstractSet

    import apsw
    from starlette.requests import Request

    from digital_twins.monitoring.signals import Association, Reading
    from digital_twins.monitoring.station import People
    from digital_twins.storage import Database

_MOST_MAIL = 20_000
_SEEN_POLL_S = 0.05
_FRESH_S, _TILES_S = 0.9, 1.5
_STATION = StaffMember("station", "")


class Registry:
    """The associations of a ward as its front tells them: one after the other, known to every part.

    Parameters
    ----------
    database
        Of the ward.
    parts
        Into how many parts it is divided.

    Attributes
    ----------
    log
        What was told, as of the last call.
    """

    def __init__(self, database: Database, parts: int) -> None:
        self._database, self._parts = database, parts
        self.log, self._homes, self._known = AssociationLog(), Homes(parts), 0

    async def home(self, patient: str) -> int:
        """Return the part that watches a patient."""
        await self.refresh()
        return self._homes.of(patient)

    async def tell(self, entry: Association) -> None:
        """Write an association; return once every part works by it.

        Raises
        ------
        ConflictError
            The patient lies in another bed.
        PartAwayError
            A part has not taken it in yet; it is written and will hold.
        """
        number = None
        while number is None:  # another front may have told one in between
            await self.refresh()
            self.log.check(entry)
            number = await self._database.commit(lambda cursor: self._insert(cursor, entry))
        await self.refresh()
        end_s = time.monotonic() + ANSWER_S
        while not await asyncio.to_thread(self._seen, number):
            if time.monotonic() > end_s:
                raise part_away()
            await asyncio.sleep(_SEEN_POLL_S)

    async def refresh(self) -> None:
        """Take in what was told since the last call; raises StorageError."""
        for number, entry in await asyncio.to_thread(self._news):
            if number <= self._known:
                continue
            self._known = number
            try:
                self.log.apply(entry)
            except ConflictError:  # as every part does
                continue
            self._homes.note(entry, self.log)

    def _news(self) -> list[tuple[int, Association]]:
        with self._database.read() as connection:
            return told_since(connection, self._known)

    def _insert(self, cursor: apsw.Cursor, entry: Association) -> int | None:
        if told_since(cursor, self._known):
            return None
        cursor.execute(
            "INSERT INTO monitor_association(kind, subject, target, since_s) VALUES (?, ?, ?, ?)",
            (entry.kind, entry.subject, entry.target, entry.since_s),
        )
        row = cursor.execute("SELECT max(number) FROM monitor_association").fetchone()
        return None if row is None else int(str(row[0]))

    def _seen(self, number: int) -> bool:
        """Return whether every worker has it; who takes a free part over reads all of them first."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) FROM monitor_lease WHERE owner <> '' AND seen < ?", (number,)
            ).fetchone()
        return row is not None and int(str(row[0])) == 0


class FrontDoors(Entrance):
    """Doors that ask the parts.

    Parameters
    ----------
    database
        Of the ward.
    parts
        Into how many parts it is divided.
    board
        Running.
    devices, people, may_acknowledge
        As for `Entrance`.
    followed
        Devices that the front itself follows: they have no password and cannot speak to the doors.
    """

    def __init__(
        self,
        database: Database,
        *,
        parts: int,
        board: Switchboard,
        devices: Mapping[str, str],
        people: People,
        may_acknowledge: AbstractSet[str],
        followed: Sequence[str] = (),
    ) -> None:
        self._registry = Registry(database, parts)
        waves = Waveforms(self._registry.log, devices=frozenset(devices).union(followed)), time.time
        super().__init__(devices, people, may_acknowledge=may_acknowledge, waves=waves)
        self._database, self._parts, self._board = database, parts, board
        self._last: list[dict[str, Any]] = [{"patients": [], "counts": {}}] * parts
        self._tiles: tuple[float, dict[str, Any]] = (-1e9, {})
        self._looking = asyncio.Lock()

    async def take(self, readings: Sequence[Reading]) -> bool:
        """Give readings as mail to the parts that hear their devices; False: too much mail waits."""
        if await asyncio.to_thread(self._crowded):
            return False
        by_part: dict[int, list[Line]] = {}
        now_s = time.time()
        for each in readings:
            by_part.setdefault(device_part(each.device, self._parts), []).append(line_of(each, now_s))
        await self._database.commit(lambda cursor: send_lines(cursor, by_part))
        return True

    async def stream_one(self, reading: Reading) -> None:
        """Take a reading of a stream once there is room."""
        while not await self.take([reading]):
            await asyncio.sleep(0.5)

    async def place(self, entry: Association) -> None:
        """Add an association and return once every part works by it."""
        await self._registry.tell(entry)

    async def placed(self) -> AssociationLog:
        """Return the associations as of now, of every front."""
        await self._registry.refresh()
        return self._registry.log

    async def tiles(self) -> dict[str, Any]:
        """Return the tiles of all parts, asked once a second at most; a part that is away has no values."""
        async with self._looking:
            if time.monotonic() - self._tiles[0] < _FRESH_S:
                return self._tiles[1]
            await self._registry.refresh()
            found = await asyncio.gather(*(self._look(part) for part in range(self._parts)))
            counts: dict[str, int] = {}
            for each, _ in found:
                for name, number in each["counts"].items():
                    counts[name] = counts.get(name, 0) + number
            away = [part for part, (_, there) in enumerate(found) if not there]
            patients = [tile for each, _ in found for tile in each["patients"]]
            told = {"at_s": time.time(), "patients": patients, "counts": counts, "parts_away": away}
            self._tiles = (time.monotonic(), told)
            return told

    async def _look(self, part: int) -> tuple[dict[str, Any], bool]:
        try:
            self._last[part] = await self._asked(part, "/patients", member=_STATION, answer_s=_TILES_S)
        except PartAwayError:
            blank = [
                {**tile, "vitals": dict.fromkeys(tile["vitals"])} for tile in self._last[part]["patients"]
            ]
            self._last[part] = {**self._last[part], "patients": blank}
            return self._last[part], False
        return self._last[part], True

    async def alerts(self, request: Request) -> Response:
        """List the open alerts of all parts; raises PartAwayError rather than leave some out."""
        found = [alert for each in await self._all(request) for alert in each]
        found.sort(key=lambda each: (-Priority[each["priority"].upper()], -each["raised_s"], each["id"]))
        return JSONResponse(found)

    async def acknowledge(self, request: Request) -> Response:
        """Acknowledge an alert at the part that gave it its number."""
        return await self._relay(request, int(request.path_params["alert"]) % self._parts)

    async def shelve(self, request: Request) -> Response:
        """Shelve a rule at the part of the patient."""
        body = await body_of(request, MAX_BYTES)
        return await self._relay(request, await self._registry.home(str(decoded(body).get("patient"))), body)

    async def trends(self, request: Request) -> Response:
        """Return five minutes of one vital sign of all parts."""
        found = await self._all(request)
        patients = {name: trend for each in found for name, trend in each["patients"].items()}
        return JSONResponse({**found[0], "patients": patients})

    async def history(self, request: Request) -> Response:
        """Return hours of a patient."""
        if "patient" not in request.query_params:
            raise malformed()
        return await self._relay(request, await self._registry.home(request.query_params["patient"]))

    async def thresholds(self, request: Request) -> Response:
        """Return the rules in force, with the own limits of all patients."""
        found = await self._all(request)
        own = {name: limits for each in found for name, limits in each["own_limits"].items()}
        return JSONResponse({**found[0], "own_limits": own})

    async def models(self, request: Request) -> Response:
        """Return the models that run: the same in every part."""
        return await self._relay(request, 0)

    async def bed(self, request: Request) -> Response:
        """Return all of one patient."""
        return await self._relay(request, await self._registry.home(request.path_params["patient"]))

    async def what_if(self, request: Request) -> Response:
        """Return outlooks."""
        return await self._relay(request, await self._registry.home(request.path_params["patient"]))

    async def _relay(self, request: Request, part: int, body: bytes | None = None) -> Response:
        member = self.member(request)
        if body is None:
            body = await body_of(request, MAX_BYTES)
        status, data = await self._board.ask(part, request.method, _path(request), body=body, member=member)
        return Response(data, status, media_type="application/json")

    async def _all(self, request: Request) -> list[Any]:
        member = self.member(request)
        asked = [self._asked(part, _path(request), member=member) for part in range(self._parts)]
        return list(await asyncio.gather(*asked))

    async def _asked(self, part: int, path: str, *, member: StaffMember, answer_s: float = ANSWER_S) -> Any:
        status, data = await self._board.ask(part, "GET", path, member=member, answer_s=answer_s)
        if status >= 400:
            raise _told(status, data)
        return json.loads(data)

    def _crowded(self) -> bool:
        with self._database.read() as connection:
            row = connection.execute("SELECT count(*) FROM monitor_mail").fetchone()
        return row is not None and int(str(row[0])) > _MOST_MAIL


def _path(request: Request) -> str:
    query = request.url.query
    return quote(request.url.path) + (f"?{query}" if query else "")


def _told(status: int, data: bytes) -> DigitalTwinError:
    """Return the error that a part answered with."""
    said = json.loads(data)
    error = DigitalTwinError(*(str(said.get(name, "")) for name in ("what", "why", "fix")))
    error.http_status = status
    return error
