"""The live patient monitor: ingest, quality, live twins, detection, alerts and storage, for many patients."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.monitoring._alert import Alert as Alert, AlertStep as AlertStep, Notice as Notice
    from digital_twins.monitoring._alert_book import AlertBook as AlertBook
    from digital_twins.monitoring._alert_store import MIGRATIONS as MIGRATIONS, AlertStore as AlertStore
    from digital_twins.monitoring._analysis import run_analysis as run_analysis
    from digital_twins.monitoring._anomaly import (
        AnomalyDetector as AnomalyDetector,
        healthy_values as healthy_values,
    )
    from digital_twins.monitoring._association import (
        Association as Association,
        AssociationLog as AssociationLog,
    )
    from digital_twins.monitoring._baseline import PersonalBaseline as PersonalBaseline
    from digital_twins.monitoring._broker import EmbeddedBroker as EmbeddedBroker
    from digital_twins.monitoring._changes import ChangeDetector as ChangeDetector
    from digital_twins.monitoring._client import (
        MonitorClient as MonitorClient,
        MonitorRefusedError as MonitorRefusedError,
    )
    from digital_twins.monitoring._conditions import Conditions as Conditions
    from digital_twins.monitoring._delivery import (
        Channel as Channel,
        Courier as Courier,
        Delivery as Delivery,
        NotDeliveredError as NotDeliveredError,
    )
    from digital_twins.monitoring._demo import VirtualWard as VirtualWard, replay_record as replay_record
    from digital_twins.monitoring._evaluate import (
        cross_validate_death_risk as cross_validate_death_risk,
        evaluate_death_risk as evaluate_death_risk,
    )
    from digital_twins.monitoring._features import FEATURES as FEATURES, features as features
    from digital_twins.monitoring._fhir_channel import FhirWriteBack as FhirWriteBack
    from digital_twins.monitoring._from_fhir import observation_readings as observation_readings
    from digital_twins.monitoring._from_hl7 import oru_reading as oru_reading
    from digital_twins.monitoring._history import History as History
    from digital_twins.monitoring._homes import Homes as Homes, device_part as device_part
    from digital_twins.monitoring._http import monitor_app as monitor_app
    from digital_twins.monitoring._intake import Arrival as Arrival, Intake as Intake
    from digital_twins.monitoring._lease import (
        Holding as Holding,
        Leases as Leases,
        PartLostError as PartLostError,
    )
    from digital_twins.monitoring._live_twin import (
        LiveTwin as LiveTwin,
        TwinStep as TwinStep,
        measured as measured,
    )
    from digital_twins.monitoring._message import decode_reading as decode_reading
    from digital_twins.monitoring._monitor import PatientMonitor as PatientMonitor
    from digital_twins.monitoring._mqtt import (
        BrokerAddress as BrokerAddress,
        MqttSubscriber as MqttSubscriber,
    )
    from digital_twins.monitoring._news2 import News2 as News2, news2 as news2
    from digital_twins.monitoring._nurse_call import (
        AppriseCall as AppriseCall,
        Hl7Call as Hl7Call,
        WebhookCall as WebhookCall,
    )
    from digital_twins.monitoring._part import (
        WardPart as WardPart,
        open_monitor_database as open_monitor_database,
    )
    from digital_twins.monitoring._particles import (
        ParticleTwin as ParticleTwin,
        systematic_rows as systematic_rows,
    )
    from digital_twins.monitoring._people import StaffMember as StaffMember
    from digital_twins.monitoring._physiology import (
        OBSERVED as OBSERVED,
        SLOW as SLOW,
        STATES as STATES,
        Body as Body,
        Inputs as Inputs,
        observe as observe,
    )
    from digital_twins.monitoring._physionet import Stays as Stays, read_stays as read_stays
    from digital_twins.monitoring._predict_features import (
        StayInputs as StayInputs,
        predictor_inputs as predictor_inputs,
    )
    from digital_twins.monitoring._predict_hypotension import evaluate_hypotension as evaluate_hypotension
    from digital_twins.monitoring._predict_model import (
        DeathRisk as DeathRisk,
        load_death_risk as load_death_risk,
        save_death_risk as save_death_risk,
        train_death_risk as train_death_risk,
    )
    from digital_twins.monitoring._profiles import (
        PatientProfile as PatientProfile,
        load_profiles as load_profiles,
    )
    from digital_twins.monitoring._quality import Checked as Checked, QualityChecks as QualityChecks
    from digital_twins.monitoring._replay import replay_numerics as replay_numerics
    from digital_twins.monitoring._ring import Ring as Ring
    from digital_twins.monitoring._run import (
        MonitorPorts as MonitorPorts,
        open_ward as open_ward,
        run_monitor as run_monitor,
    )
    from digital_twins.monitoring._sample import Quality as Quality, Reading as Reading, Sample as Sample
    from digital_twins.monitoring._scenarios import (
        SCENARIOS as SCENARIOS,
        Scenario as Scenario,
        SyntheticPatients as SyntheticPatients,
    )
    from digital_twins.monitoring._sdc import (
        SdcDevice as SdcDevice,
        SdcFeed as SdcFeed,
        SdcPlan as SdcPlan,
        SdcTls as SdcTls,
        read_sdc as read_sdc,
    )
    from digital_twins.monitoring._service import MonitorService as MonitorService
    from digital_twins.monitoring._simulated_waveforms import SimulatedWaveforms as SimulatedWaveforms
    from digital_twins.monitoring._technical import TechnicalAlarms as TechnicalAlarms
    from digital_twins.monitoring._thresholds import (
        DERIVED as DERIVED,
        SIGNALS as SIGNALS,
        EscalationStep as EscalationStep,
        Priority as Priority,
        Rule as Rule,
        Thresholds as Thresholds,
        load_thresholds as load_thresholds,
    )
    from digital_twins.monitoring._trend import (
        TrendFilter as TrendFilter,
        TrendNoise as TrendNoise,
        TrendStep as TrendStep,
    )
    from digital_twins.monitoring._units import in_unit as in_unit
    from digital_twins.monitoring._vitals import (
        COLUMN as COLUMN,
        LOINC_CODE as LOINC_CODE,
        MDC_CODE as MDC_CODE,
        VITALS as VITALS,
        VitalSign as VitalSign,
        vital as vital,
    )
    from digital_twins.monitoring._ward import (
        WardSize as WardSize,
        run_ward as run_ward,
        run_worker as run_worker,
    )
    from digital_twins.monitoring._waveforms import (
        WAVEFORMS as WAVEFORMS,
        Waveform as Waveform,
        WaveformPiece as WaveformPiece,
        Waveforms as Waveforms,
        decode_waveform as decode_waveform,
    )
    from digital_twins.monitoring._what_if import Action as Action, Outlook as Outlook, outlook as outlook

_WHERE = {
    "run_analysis": "digital_twins.monitoring._analysis",
    **dict.fromkeys(("MonitorClient", "MonitorRefusedError"), "digital_twins.monitoring._client"),
    **dict.fromkeys(("Association", "AssociationLog"), "digital_twins.monitoring._association"),
    "PersonalBaseline": "digital_twins.monitoring._baseline",
    **dict.fromkeys(("LiveTwin", "TwinStep", "measured"), "digital_twins.monitoring._live_twin"),
    **dict.fromkeys(("WardPart", "open_monitor_database"), "digital_twins.monitoring._part"),
    **dict.fromkeys(("ParticleTwin", "systematic_rows"), "digital_twins.monitoring._particles"),
    **dict.fromkeys(
        ("Body", "Inputs", "OBSERVED", "SLOW", "STATES", "observe"), "digital_twins.monitoring._physiology"
    ),
    **dict.fromkeys(("PatientProfile", "load_profiles"), "digital_twins.monitoring._profiles"),
    **dict.fromkeys(("Quality", "Reading", "Sample"), "digital_twins.monitoring._sample"),
    **dict.fromkeys(("SCENARIOS", "Scenario", "SyntheticPatients"), "digital_twins.monitoring._scenarios"),
    **dict.fromkeys(("TrendFilter", "TrendNoise", "TrendStep"), "digital_twins.monitoring._trend"),
    "in_unit": "digital_twins.monitoring._units",
    **dict.fromkeys(
        ("COLUMN", "LOINC_CODE", "MDC_CODE", "VITALS", "VitalSign", "vital"),
        "digital_twins.monitoring._vitals",
    ),
    **dict.fromkeys(("Action", "Outlook", "outlook"), "digital_twins.monitoring._what_if"),
    **dict.fromkeys(("AnomalyDetector", "healthy_values"), "digital_twins.monitoring._anomaly"),
    **dict.fromkeys(
        ("cross_validate_death_risk", "evaluate_death_risk"), "digital_twins.monitoring._evaluate"
    ),
    **dict.fromkeys(("Stays", "read_stays"), "digital_twins.monitoring._physionet"),
    **dict.fromkeys(("StayInputs", "predictor_inputs"), "digital_twins.monitoring._predict_features"),
    "evaluate_hypotension": "digital_twins.monitoring._predict_hypotension",
    **dict.fromkeys(
        ("DeathRisk", "load_death_risk", "save_death_risk", "train_death_risk"),
        "digital_twins.monitoring._predict_model",
    ),
    "ChangeDetector": "digital_twins.monitoring._changes",
    **dict.fromkeys(("FEATURES", "features"), "digital_twins.monitoring._features"),
    **dict.fromkeys(("News2", "news2"), "digital_twins.monitoring._news2"),
    **dict.fromkeys(("Checked", "QualityChecks"), "digital_twins.monitoring._quality"),
    **dict.fromkeys(("Alert", "AlertStep", "Notice"), "digital_twins.monitoring._alert"),
    "AlertBook": "digital_twins.monitoring._alert_book",
    "Conditions": "digital_twins.monitoring._conditions",
    **dict.fromkeys(
        ("DERIVED", "EscalationStep", "Priority", "Rule", "SIGNALS", "Thresholds", "load_thresholds"),
        "digital_twins.monitoring._thresholds",
    ),
    **dict.fromkeys(("Arrival", "Intake"), "digital_twins.monitoring._intake"),
    "PatientMonitor": "digital_twins.monitoring._monitor",
    **dict.fromkeys(
        ("SdcDevice", "SdcFeed", "SdcPlan", "SdcTls", "read_sdc"), "digital_twins.monitoring._sdc"
    ),
    "SimulatedWaveforms": "digital_twins.monitoring._simulated_waveforms",
    **dict.fromkeys(
        ("WAVEFORMS", "Waveform", "WaveformPiece", "Waveforms", "decode_waveform"),
        "digital_twins.monitoring._waveforms",
    ),
    "replay_numerics": "digital_twins.monitoring._replay",
    "Ring": "digital_twins.monitoring._ring",
    "TechnicalAlarms": "digital_twins.monitoring._technical",
    **dict.fromkeys(("AlertStore", "MIGRATIONS"), "digital_twins.monitoring._alert_store"),
    "EmbeddedBroker": "digital_twins.monitoring._broker",
    "observation_readings": "digital_twins.monitoring._from_fhir",
    "oru_reading": "digital_twins.monitoring._from_hl7",
    "History": "digital_twins.monitoring._history",
    "decode_reading": "digital_twins.monitoring._message",
    **dict.fromkeys(("BrokerAddress", "MqttSubscriber"), "digital_twins.monitoring._mqtt"),
    "MonitorService": "digital_twins.monitoring._service",
    **dict.fromkeys(("VirtualWard", "replay_record"), "digital_twins.monitoring._demo"),
    **dict.fromkeys(("AppriseCall", "Hl7Call", "WebhookCall"), "digital_twins.monitoring._nurse_call"),
    **dict.fromkeys(
        ("Channel", "Courier", "Delivery", "NotDeliveredError"), "digital_twins.monitoring._delivery"
    ),
    **dict.fromkeys(("Homes", "device_part"), "digital_twins.monitoring._homes"),
    **dict.fromkeys(("Holding", "Leases", "PartLostError"), "digital_twins.monitoring._lease"),
    "FhirWriteBack": "digital_twins.monitoring._fhir_channel",
    "StaffMember": "digital_twins.monitoring._people",
    "monitor_app": "digital_twins.monitoring._http",
    **dict.fromkeys(("WardSize", "run_ward", "run_worker"), "digital_twins.monitoring._ward"),
    **dict.fromkeys(("MonitorPorts", "open_ward", "run_monitor"), "digital_twins.monitoring._run"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
