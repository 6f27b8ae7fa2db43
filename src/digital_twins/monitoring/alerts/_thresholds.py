"""Alert rules as data: ``alert_thresholds.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError
from digital_twins.monitoring.signals import COLUMN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DERIVED = ("NEWS2", "CHANGE", "ANOMALY_FOREST", "ANOMALY_SVM", "DEATH_RISK")
"""Signals that the monitor computes; they follow the vital signs in the columns that rules see."""

SIGNALS: dict[str, int] = {**COLUMN, **{name: len(COLUMN) + n for n, name in enumerate(DERIVED)}}
"""Column of every signal that a rule may name."""

_KEYS = {
    "rules",
    "events",
    "technical",
    "dedup_s",
    "renotify_s",
    "longest_shelf_s",
    "escalation",
    "may_acknowledge",
}


class Priority(IntEnum):
    """Priority of an alarm (IEC 60601-1-8)."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def colour(self) -> str:
        """Colour of the indicator: red, yellow or cyan."""
        return {1: "cyan", 2: "yellow", 3: "red"}[self]

    @property
    def marks(self) -> str:
        """Asterisks beside the text, so that colour never stands alone."""
        return "*" * self

    @property
    def flash_hz(self) -> float:
        """Flashes a second: within 1.4 to 2.8 (high) and 0.4 to 0.8 (medium) of the standard [verify]."""
        return {1: 0.0, 2: 0.6, 3: 2.0}[self]


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit.

    Attributes
    ----------
    id
        Unique.
    signal
        A key of `SIGNALS`.
    limit, below
        The condition is under the limit if `below`, else over it.
    priority
        Of its alerts.
    delay_s
        How long the condition must hold.
    hysteresis
        How far inside the limit the signal must come for the condition to end.
    text
        For people.
    """

    id: str
    signal: str
    limit: float
    below: bool
    priority: Priority
    delay_s: float
    hysteresis: float
    text: str


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """Whom an alert goes to after some seconds without acknowledgement."""

    after_s: float
    to: str


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Everything that the file says.

    Attributes
    ----------
    rules
        Limits.
    events
        Event of a device to its priority and text; ``device`` stands for every other.
    technical_priority, technical_delay_s
        Of alarms about signals.
    dedup_s, renotify_s, longest_shelf_s
        See the file.
    escalation
        Steps by priority.
    may_acknowledge
        Roles.
    """

    rules: tuple[Rule, ...]
    events: Mapping[str, tuple[Priority, str]]
    technical_priority: Priority
    technical_delay_s: float
    dedup_s: float
    renotify_s: float
    longest_shelf_s: float
    escalation: Mapping[Priority, tuple[EscalationStep, ...]]
    may_acknowledge: frozenset[str]


def load_thresholds(path: Path | None = None) -> Thresholds:
    """Read the alert rules; without a path the bundled ones.

    Raises
    ------
    NotFoundError
        There is no such file.
    InputError
        It is no YAML, a key is unknown, or a rule cannot be used; the message says which.
    """
    return parse_thresholds(thresholds_text(path))


def thresholds_text(path: Path | None = None) -> str:
    """Return the text of a file of alert rules, without a path of the bundled one; raises NotFoundError."""
    try:
        return (
            files("digital_twins.monitoring").joinpath("data/alert_thresholds.yaml").read_text("utf-8")
            if path is None
            else path.read_text("utf-8")
        )
    except OSError:
        raise NotFoundError(
            "The alert thresholds cannot be read.", "There is no such file.", "Give another path."
        ) from None


def parse_thresholds(text: str) -> Thresholds:
    """Return the alert rules of a YAML text; raises InputError that says what cannot be used."""
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError:
        raise _unusable("it is no YAML") from None
    if not isinstance(data, dict) or set(data) != _KEYS:
        raise _unusable(f"its keys have to be {', '.join(sorted(_KEYS))}")
    try:
        return _thresholds(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(f"a value has the wrong form ({type(error).__name__})") from None


def _thresholds(data: dict[str, Any]) -> Thresholds:
    rules = tuple(_rule(each) for each in data["rules"])
    if len({each.id for each in rules}) != len(rules):
        raise _unusable("two rules have one id")
    events = {
        str(name): (Priority[each["priority"].upper()], str(each["text"]))
        for name, each in data["events"].items()
    }
    if not {"asystole", "vf", "vt", "apnoea", "device"} <= set(events):
        raise _unusable("an alarm that is never suppressed is missing: asystole, vf, vt, apnoea, device")
    escalation = {
        Priority[name.upper()]: tuple(
            EscalationStep(float(each["after_s"]), str(each["to"])) for each in steps
        )
        for name, steps in data["escalation"].items()
    }
    technical = data["technical"]
    return Thresholds(
        rules,
        events,
        Priority[technical["priority"].upper()],
        float(technical["delay_s"]),
        float(data["dedup_s"]),
        float(data["renotify_s"]),
        float(data["longest_shelf_s"]),
        escalation,
        frozenset(str(each) for each in data["may_acknowledge"]),
    )


def _rule(row: dict[str, Any]) -> Rule:
    below = "below" in row
    if below == ("above" in row):
        raise _unusable(f"rule {row.get('id')} needs either above or below")
    if row["signal"] not in SIGNALS:
        raise _unusable(f"rule {row['id']} names an unknown signal")
    delay, hysteresis = float(row["delay_s"]), float(row["hysteresis"])
    if delay < 0 or hysteresis < 0:
        raise _unusable(f"rule {row['id']} has a negative delay or hysteresis")
    return Rule(
        str(row["id"]),
        str(row["signal"]),
        float(row["below"] if below else row["above"]),
        below,
        Priority[row["priority"].upper()],
        delay,
        hysteresis,
        str(row["text"]),
    )


def _unusable(why: str) -> InputError:
    return InputError(
        "The alert thresholds cannot be used.",
        f"In the file {why}.",
        "Compare it with the bundled alert_thresholds.yaml.",
    )
