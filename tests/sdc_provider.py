"""An SDC device of the library's own provider, with a description that is written here; simulated values.

It is a process of its own: the library's provider leaves its event loop and sockets open when it ends.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_PART = "http://standards.ieee.org/downloads/11073/11073-10207-2017"
_CLASS = 'DescriptorVersion="0" SafetyClassification="MedA"'
_METRIC = f'{_CLASS} MetricCategory="Msrmt" MetricAvailability="Cont"'


def _metric(handle: str, code: int, unit: int, kind: str = "NumericMetric", more: str = "") -> str:
    return (
        f'<pm:Metric xsi:type="pm:{kind}Descriptor" Handle="{handle}" {_METRIC} Resolution="0.01"{more}>'
        f'<pm:Type Code="{code}"/><pm:Unit Code="{unit}"/></pm:Metric>'
    )


def _description() -> bytes:
    sequence = f'SequenceId="urn:uuid:{uuid.uuid4()}" MdibVersion="0"'
    metrics = [
        _metric("hr", 147842, 264864),
        _metric("spo2", 150456, 262688),
        _metric("unknown", 147843, 264864),
        _metric("art", 150035, 262688),  # a pressure in per cent: no conversion is known
        _metric("ecg", 131330, 266418, "RealTimeSampleArrayMetric", ' SamplePeriod="PT0.004S"'),
    ]
    return (
        f'<msg:GetMdibResponse xmlns:pm="{_PART}/participant" xmlns:msg="{_PART}/message" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {sequence}><msg:Mdib {sequence}>'
        f'<pm:MdDescription DescriptionVersion="0"><pm:Mds Handle="mds" {_CLASS}><pm:Type Code="69985"/>'
        f'<pm:AlertSystem Handle="alerts" {_CLASS}>'
        f'<pm:AlertCondition Handle="alarm" {_CLASS} Kind="Phy" Priority="Hi">'
        '<pm:Type Code="196674"/><pm:Source>hr</pm:Source></pm:AlertCondition></pm:AlertSystem>'
        f'<pm:Vmd Handle="vmd" {_CLASS}><pm:Channel Handle="channel" {_CLASS}>{"".join(metrics)}'
        "</pm:Channel></pm:Vmd></pm:Mds></pm:MdDescription></msg:Mdib></msg:GetMdibResponse>"
    ).encode()


class _Unannounced:
    """Stands for WS-Discovery: nobody is told of the device."""

    active_address = "127.0.0.1"

    def publish_service(self, *_: object, **__: object) -> None: ...

    def clear_service(self, *_: object, **__: object) -> None: ...


class SimulatedSdcDevice:
    """``with SimulatedSdcDevice() as device``: heart rate, saturation, an alarm and an ECG on 127.0.0.1.

    Parameters
    ----------
    tls
        Certificate, key and authority; none: plain HTTP.
    discoverable
        Answer to WS-Discovery on the loopback interface.
    old
        Know no TLS 1.3.
    """

    def __init__(
        self, *, tls: tuple[Path, Path, Path] | None = None, discoverable: bool = False, old: bool = False
    ) -> None:
        said = {"tls": [str(each) for each in tls or ()], "discoverable": discoverable, "old": old}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, json.dumps(said)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address, self.epr = "", ""

    def __enter__(self) -> Self:
        try:
            self.address, self.epr = self._answer()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let the device vanish without a word."""
        self._process.kill()
        self._process.communicate()

    def measure(self, values: dict[str, float], *, valid: bool = True) -> None:
        """Report values by handle in one metric report, determined now."""
        self._tell("measure", values, valid)

    def alarm(self, at_s: float) -> None:
        """Let the condition be present."""
        self._tell("alarm", at_s)

    def wave(self, at_s: float, samples: list[float]) -> None:
        """Report a piece of the ECG, in millivolts."""
        self._tell("wave", at_s, samples)

    def _tell(self, *what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        assert self._answer() == ["done", what[0]]

    def _answer(self) -> list[str]:
        assert self._process.stdout is not None
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer


class _Device:
    """The provider, in its process."""

    def __init__(self, said: dict[str, Any], discovery: Any) -> None:
        from sdc11073.certloader import mk_ssl_contexts
        from sdc11073.definitions_sdc import SdcV1Definitions
        from sdc11073.mdib import ProviderMdib
        from sdc11073.provider import SdcProvider
        from sdc11073.xml_types.dpws_types import ThisDeviceType, ThisModelType

        self.mdib = ProviderMdib.from_string(_description(), protocol_definition=SdcV1Definitions)
        contexts = None
        if said["tls"]:
            certificate, key, authority = map(Path, said["tls"])
            contexts = mk_ssl_contexts(key, certificate, authority)
            if said["old"]:
                for each in (contexts.client_context, contexts.server_context):
                    each.maximum_version = ssl.TLSVersion.TLSv1_2
        self.provider = SdcProvider(
            ws_discovery=discovery,
            epr=uuid.uuid4(),
            this_model=ThisModelType(manufacturer="Simulated", model_name="Simulated"),
            this_device=ThisDeviceType(friendly_name="Simulated"),
            device_mdib_container=self.mdib,
            ssl_context_container=contexts,
        )
        self.provider.start_all(start_rtsample_loop=False)
        self.provider.publish()

    def measure(self, values: dict[str, float], valid: bool) -> None:
        from sdc11073.xml_types import pm_types

        validity = pm_types.MeasurementValidity
        with self.mdib.metric_state_transaction() as change:
            for handle, value in values.items():
                state = change.get_state(handle)
                if state.MetricValue is None:
                    state.mk_metric_value()
                state.MetricValue.Value = Decimal(str(value))
                state.MetricValue.MetricQuality.Validity = validity.VALID if valid else validity.QUESTIONABLE
                state.ActivationState = pm_types.ComponentActivation.ON

    def alarm(self, at_s: float) -> None:
        from sdc11073.xml_types import pm_types

        with self.mdib.alert_state_transaction() as change:
            state = change.get_state("alarm")
            state.Presence, state.DeterminationTime = True, at_s
            state.ActivationState = pm_types.AlertActivation.ON

    def wave(self, at_s: float, samples: list[float]) -> None:
        from sdc11073.xml_types import pm_types

        with self.mdib.rt_sample_state_transaction() as change:
            state = change.get_state("ecg")
            if state.MetricValue is None:
                state.mk_metric_value()
            state.MetricValue.Samples = [Decimal(str(each)) for each in samples]
            state.MetricValue.DeterminationTime = at_s
            state.MetricValue.MetricQuality.Validity = pm_types.MeasurementValidity.VALID
            state.ActivationState = pm_types.ComponentActivation.ON


def _serve(said: dict[str, Any], discovery: Any) -> None:
    device = _Device(said, discovery)
    _say([device.provider.get_xaddrs()[0], device.provider.epr_urn])
    for line in sys.stdin:
        kind, *what = json.loads(line)
        {"measure": device.measure, "alarm": device.alarm, "wave": device.wave}[kind](*what)
        _say(["done", kind])


def _say(what: list[str]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    said = json.loads(sys.argv[1])
    if said["discoverable"]:
        from sdc11073.wsdiscovery import WSDiscovery

        with WSDiscovery("127.0.0.1") as discovery:
            _serve(said, discovery)
    else:
        _serve(said, _Unannounced())


if __name__ == "__main__":
    main()
