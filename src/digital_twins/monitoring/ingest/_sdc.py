"""IEEE 11073 SDC: metrics, alarms and waveforms of devices on the network, by the library ``sdc11073``.

A device (BICEPS, IEEE 11073-10207) names no patient here: its contexts are not used, the associations say who
lies there. The library works in threads of its own; what it brings goes to the monitor's event loop.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from digital_twins._errors import InputError, NotFoundError
from digital_twins._logging import get_logger
from digital_twins.config import is_loopback
from digital_twins.crypto import BCP_195_SUITES
from digital_twins.monitoring.signals import MDC_CODE, WAVEFORMS, Reading, WaveformPiece, in_unit, vital

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from digital_twins.monitoring.storage import AccessTrail

_log = get_logger(__name__)
_LOOK_S, _SEARCH_S = 0.5, 5.0
_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_WAVE = {each.mdc: each.code for each in WAVEFORMS.values() if each.mdc}
_VALID = frozenset({"Vld"})
_MDC = frozenset({None, "urn:oid:1.2.840.10004.1.1.1.0.0.1"})  # none is 11073-10101 by BICEPS B.98


@dataclass(frozen=True, slots=True)
class SdcDevice:
    """A device that is followed.

    Attributes
    ----------
    name
        Of the device in the associations.
    epr
        Its endpoint reference, ``urn:uuid:...``, by which it is found on the network.
    address
        Its transport address where it is known; then nobody searches. Without https on this machine only.
    tls_1_2
        TLS 1.2 with the cipher suites of BCP 195 will do for this device; each such session is audited.
    """

    name: str
    epr: str = ""
    address: str = ""
    tls_1_2: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if not self.epr and not self.address:
            raise _refused("it has neither epr nor address")
        if self.address and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise _refused("its address is not https")


@dataclass(frozen=True, slots=True)
class SdcTls:
    """Certificates of SDC, in PEM files; both sides show one.

    Attributes
    ----------
    certificate, key
        Ours.
    authority
        Whose certificates devices may show.
    """

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class SdcPlan:
    """What a monitor follows by SDC, as `SdcFeed` takes it.

    Attributes
    ----------
    devices
        Which.
    tls
        Certificates.
    interface
        Where devices are searched.
    """

    devices: tuple[SdcDevice, ...]
    tls: SdcTls | None = None
    interface: str = "127.0.0.1"


def read_sdc(path: Path) -> SdcPlan:
    """Return the plan of a YAML file: ``devices`` (name to `SdcDevice`), ``tls``, ``interface``.

    Raises
    ------
    InputError
        The file cannot be read, has an unknown key, or a device that cannot be followed.
    """
    import yaml

    try:
        data = dict(yaml.safe_load(path.read_text("utf-8")))
        named, files = data.pop("devices"), data.pop("tls", None)
        devices = tuple(SdcDevice(str(name), **(each or {})) for name, each in named.items())
        tls = None
        if files is not None:
            tls = SdcTls(**{name: path.parent / each for name, each in files.items()})
        return SdcPlan(devices, tls, **data)
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The file of SDC devices cannot be used.",
            f"Reading it raised {type(error).__name__}: it is missing or not of the documented form.",
            "See docs/reference/monitor.md for its keys.",
        ) from None


class SdcFeed:
    """Follows SDC devices, each again after it was lost: ``async with SdcFeed(devices, take=..., wave=...)``.

    Parameters
    ----------
    devices
        Which.
    take
        Gets each reading, in the event loop.
    wave
        Gets the device and each piece of a waveform, in the event loop.
    tls
        Certificates; without them a device can be followed on this machine only.
    interface
        Address of the network interface on which devices are searched (WS-Discovery).
    trail
        Gets one event of each session over TLS 1.2.

    Attributes
    ----------
    connected
        Names of the devices that are followed at the moment.

    Raises
    ------
    NotFoundError
        The library ``sdc11073`` is not installed.
    InputError
        A device on the network has to be followed, and there are no certificates.
    """

    def __init__(
        self,
        devices: Sequence[SdcDevice],
        *,
        take: Callable[[Reading], object],
        wave: Callable[[str, WaveformPiece], object],
        tls: SdcTls | None = None,
        interface: str = "127.0.0.1",
        trail: AccessTrail | None = None,
    ) -> None:
        _library()
        if tls is None and not (is_loopback(interface) and all(_here(each) for each in devices)):
            raise _refused("it is on the network, and there are no certificates")
        self.connected: set[str] = set()
        self._devices, self._take, self._wave = tuple(devices), take, wave
        self._tls, self._interface, self._trail = tls, interface, trail
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for device in self._devices:
            thread = threading.Thread(target=self._follow, args=(device, loop), name=f"sdc-{device.name}")
            thread.start()
            self._threads.append(thread)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for each in self._threads:
            await asyncio.to_thread(each.join)

    def _follow(self, device: SdcDevice, loop: asyncio.AbstractEventLoop) -> None:
        attempt = 0
        while not self._stop.is_set():
            try:
                address = device.address or self._search(device)
                if address:
                    self._session(device, address, loop)
                    attempt = 0
            except Exception as error:  # noqa: BLE001  (the library raises many kinds; the next attempt tells)
                _log.warning("sdc.lost", peer=device.name, reason=type(error).__name__)
            self._stop.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
            attempt += 1

    def _search(self, device: SdcDevice) -> str:
        """Return a device's address from WS-Discovery; empty: it has not answered."""
        from sdc11073.definitions_sdc import SdcV1Definitions
        from sdc11073.wsdiscovery import WSDiscovery

        with WSDiscovery(self._interface) as discovery:
            found = discovery.search_services(
                types=SdcV1Definitions.MedicalDeviceTypesFilter, timeout=_SEARCH_S
            )
        for each in found:
            if each.epr == device.epr and each.x_addrs:
                address = str(each.x_addrs[0])
                return replace(device, address=address).address
        return ""

    def _session(self, device: SdcDevice, address: str, loop: asyncio.AbstractEventLoop) -> None:
        from sdc11073 import observableproperties
        from sdc11073.consumer.consumerimpl import SdcConsumer
        from sdc11073.definitions_sdc import SdcV1Definitions
        from sdc11073.mdib import ConsumerMdib
        from sdc11073.xml_types.actions import periodic_actions

        plain = urlsplit(address).scheme != "https"
        versions: set[str] = set()
        consumer = SdcConsumer(
            address,
            SdcV1Definitions,
            None if plain else _contexts(self._tls, versions, old=device.tls_1_2),
            force_ssl_connect=not plain,
        )
        try:
            consumer.start_all(not_subscribed_actions=periodic_actions)
            mdib = ConsumerMdib(consumer)
            teller = _Teller(device.name, mdib)

            def hand(states: Mapping[str, Any] | None) -> None:
                for reading in teller.readings((states or {}).values()):  # None: all were cleared
                    loop.call_soon_threadsafe(self._take, reading)

            def hand_waves(states: Mapping[str, Any] | None) -> None:
                for piece in teller.waves((states or {}).values()):
                    loop.call_soon_threadsafe(self._wave, device.name, piece)

            observableproperties.bind(  # type: ignore[no-untyped-call]
                mdib, metrics_by_handle=hand, alert_by_handle=hand, waveform_by_handle=hand_waves
            )
            mdib.init_mdib()  # type: ignore[no-untyped-call]
            hand({each.DescriptorHandle: each for each in list(mdib.states.objects)})
            self._tell(device, versions)
            self.connected.add(device.name)
            _log.info("sdc.connected", peer=device.name)
            while consumer.is_connected and not self._stop.wait(_LOOK_S):
                pass
        finally:
            lost = not consumer.is_connected
            self.connected.discard(device.name)
            consumer.stop_all(unsubscribe=not lost)

    def _tell(self, device: SdcDevice, versions: set[str]) -> None:
        """Write the event of a session over TLS 1.2."""
        if self._trail is not None and "TLSv1.2" in versions:
            self._trail.record("monitor.tls", "E", by=f"device:{device.name}", detail={"version": "TLSv1.2"})


class _Teller:
    """What the states of one device say, in the monitor's words."""

    def __init__(self, device: str, mdib: Any) -> None:
        self._device, self._mdib = device, mdib
        self._number = 0

    def readings(self, states: Any) -> list[Reading]:
        """Return one reading a moment: values of metrics, alarms whose condition is present."""
        values: dict[float, dict[str, float]] = {}
        events: dict[float, list[str]] = {}
        for state in states:
            descriptor = self._mdib.descriptions.handle.get_one(state.DescriptorHandle)
            number = _number(descriptor)
            if number is None:
                continue
            if hasattr(state, "Presence"):
                if state.Presence and getattr(descriptor, "Priority", "None") not in {None, "None"}:
                    events.setdefault(float(state.DeterminationTime or 0.0), []).append(f"mdc-{number}")
            elif (code := MDC_CODE.get(number)) and (found := getattr(state, "MetricValue", None)):
                at_s = float(found.DeterminationTime or 0.0)
                values.setdefault(at_s, {})[code] = _measured(found, descriptor, code)
        told = []
        for at_s in sorted(values.keys() | events.keys()):
            if at_s:  # what was never determined is no measurement
                self._number += 1
                known, heard = values.get(at_s, {}), tuple(events.get(at_s, ()))
                told.append(Reading(self._device, at_s, known, heard, self._number))
        return told

    def waves(self, states: Any) -> list[WaveformPiece]:
        """Return the pieces of waveforms of the table."""
        told = []
        for state in states:
            descriptor = self._mdib.descriptions.handle.get_one(state.DescriptorHandle)
            code, found = _WAVE.get(_number(descriptor) or 0), state.MetricValue
            if not code or not found or not found.DeterminationTime or not descriptor.SamplePeriod:
                continue
            hz = 1.0 / float(descriptor.SamplePeriod)
            samples: list[float | None] = [float(each) for each in found.Samples]
            if str(found.MetricQuality.Validity) not in _VALID:
                samples = [None] * len(samples)
            told.append(WaveformPiece(float(found.DeterminationTime), code, hz, samples))
        return told


def _number(descriptor: Any) -> int | None:
    """Return the number of a descriptor's type in IEEE 11073-10101."""
    coded = getattr(descriptor, "Type", None)
    if coded is None or coded.CodingSystem not in _MDC or not str(coded.Code).isdecimal():
        return None
    return int(coded.Code)


def _measured(found: Any, descriptor: Any, code: str) -> float:
    """Return a value in the table's unit; what is not valid, or in an unknown unit, is missing."""
    if found.Value is None or str(found.MetricQuality.Validity) not in _VALID:
        return float("nan")
    unit = str(descriptor.Unit.Code) if descriptor.Unit is not None else ""
    try:
        return in_unit(float(found.Value), unit, vital(code).unit)
    except InputError:
        return float("nan")


def _contexts(tls: SdcTls | None, versions: set[str], *, old: bool) -> Any:
    """Return the contexts of one session, both ways; `versions` gets what is negotiated."""
    import ssl

    from sdc11073.certloader import mk_ssl_contexts

    if tls is None:
        raise _refused("it speaks https, and there are no certificates")
    made = mk_ssl_contexts(tls.key, tls.certificate, tls.authority)

    class Noting(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            versions.add(self.version() or "")

    for each in (made.client_context, made.server_context):
        each.minimum_version = ssl.TLSVersion.TLSv1_2 if old else ssl.TLSVersion.TLSv1_3
        each.set_ciphers(BCP_195_SUITES)
        each.sslsocket_class = Noting
    return made


def _here(device: SdcDevice) -> bool:
    return not device.address or is_loopback(urlsplit(device.address).hostname or "")


def _library() -> None:
    try:
        import sdc11073  # noqa: F401
    except ImportError:
        raise NotFoundError(
            "SDC devices cannot be followed.",
            "The library sdc11073 is not installed.",
            "pip install 'digital-twins[sdc]'.",
        ) from None


def _refused(why: str) -> InputError:
    return InputError(
        "An SDC device cannot be followed.",
        f"For {why}.",
        "Give each an epr or an https address, and name certificate, key and authority.",
    )
