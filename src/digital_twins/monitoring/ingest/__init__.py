"""From devices to readings: broker, MQTT, HL7 v2, FHIR, SDC; who may speak, and is it new."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring.ingest._broker import EmbeddedBroker as EmbeddedBroker
    from digital_twins.monitoring.ingest._from_fhir import observation_readings as observation_readings
    from digital_twins.monitoring.ingest._from_hl7 import oru_readings as oru_readings
    from digital_twins.monitoring.ingest._intake import (
        SETTLE_S as SETTLE_S,
        Arrival as Arrival,
        Arrivals as Arrivals,
        Intake as Intake,
    )
    from digital_twins.monitoring.ingest._message import (
        MAX_BYTES as MAX_BYTES,
        BatchDecoder as BatchDecoder,
        Payloads as Payloads,
        decode_reading as decode_reading,
    )
    from digital_twins.monitoring.ingest._mqtt import (
        BrokerAddress as BrokerAddress,
        MqttSubscriber as MqttSubscriber,
    )
    from digital_twins.monitoring.ingest._placements import placements as placements
    from digital_twins.monitoring.ingest._running import Running as Running
    from digital_twins.monitoring.ingest._sdc import (
        SdcDevice as SdcDevice,
        SdcFeed as SdcFeed,
        SdcPlan as SdcPlan,
        SdcTls as SdcTls,
        read_sdc as read_sdc,
    )

_ROOM = "digital_twins.monitoring.ingest"
_WHERE = {
    "EmbeddedBroker": f"{_ROOM}._broker",
    "observation_readings": f"{_ROOM}._from_fhir",
    "oru_readings": f"{_ROOM}._from_hl7",
    "placements": f"{_ROOM}._placements",
    **dict.fromkeys(("Arrival", "Arrivals", "Intake", "SETTLE_S"), f"{_ROOM}._intake"),
    **dict.fromkeys(("BatchDecoder", "MAX_BYTES", "Payloads", "decode_reading"), f"{_ROOM}._message"),
    **dict.fromkeys(("BrokerAddress", "MqttSubscriber"), f"{_ROOM}._mqtt"),
    "Running": f"{_ROOM}._running",
    **dict.fromkeys(("SdcDevice", "SdcFeed", "SdcPlan", "SdcTls", "read_sdc"), f"{_ROOM}._sdc"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
