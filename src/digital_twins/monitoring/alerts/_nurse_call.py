"""Nurse call by webhook, HL7 v2 (IHE PCD-04) and apprise (e-mail): channels of the `Courier`."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins._errors import InputError
from digital_twins.monitoring.alerts._delivery import NotDeliveredError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from digital_twins.monitoring.alerts._delivery import Delivery

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANSWER_S = 5.0
_TOLD = frozenset({"told", "escalated"})
_PCD_PRIORITY = {"high": "PH", "medium": "PM", "low": "PL"}


class WebhookCall:
    """Posts each step of the escalation as JSON to one address.

    The body is ``{"to", "at_s", "alert"}``, with the alert as in ``GET alerts``.

    Parameters
    ----------
    url
        Of the receiver; https, or http on this machine only, for a notice names a patient.
    token
        Sent as bearer token; empty: none.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    name = "webhook"
    steps = _TOLD

    def __init__(self, url: str, *, token: str = "") -> None:
        self._url, self._token = safe_url(url, "The nurse call cannot be used."), token

    def send(self, delivery: Delivery) -> None:
        """Post it; raises NotDeliveredError until an answer of 2xx comes."""
        body = {"to": delivery.to, "at_s": delivery.at_s, "alert": delivery.alert}
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request("POST", self._url, body, headers=headers)


class Hl7Call:
    """Sends each step of the escalation, and the end, as ORU R40 over MLLP (IHE DEV PCD-04).

    Parameters
    ----------
    url
        ``mllp://HOST:PORT``, or ``mllps`` for TLS with the system's authorities.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    name = "hl7"
    steps = frozenset({*_TOLD, "closed"})

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or not port or parts.scheme not in {"mllp", "mllps"}:
            raise InputError(
                "The nurse call cannot be used.",
                "Its address is no mllp or mllps URL.",
                "Write mllps://HOST:PORT; mllp is not encrypted.",
            )
        self._host, self._port = host, port
        self._tls = ssl.create_default_context() if parts.scheme == "mllps" else None

    def send(self, delivery: Delivery) -> None:
        """Send it; raises NotDeliveredError unless MSA-1 is AA or CA."""
        from digital_twins.hl7v2 import alert_message, send_message

        alert = delivery.alert
        message = alert_message(
            number=str(alert["id"]),
            patient=str(alert["patient"]),
            bed=str(alert["bed"]),
            text=f"{alert['marks']} {alert['text']}",
            at_utc=datetime.fromtimestamp(delivery.at_s, UTC),
            ended=delivery.step == "closed",
            priority=_PCD_PRIORITY.get(str(alert["priority"]), "PI"),
        )
        answer = send_message(message, self._host, self._port, tls=self._tls, timeout_s=_ANSWER_S)
        if answer["MSA-1"] not in {"AA", "CA"}:
            raise NotDeliveredError(f"the receiver answered {answer['MSA-1']}", final=True)


class AppriseCall:
    """Sends each step of the escalation by e-mail or what else apprise knows; needs the extra `notify`.

    It names bed, priority and number, never the patient: mail leaves the hospital.

    Parameters
    ----------
    addresses
        URLs of apprise, such as ``mailtos://user:password@host?to=ward@hospital``.

    Raises
    ------
    InputError
        apprise is not installed, or does not know an address.
    """

    name = "apprise"
    steps = _TOLD

    def __init__(self, addresses: Sequence[str]) -> None:
        try:
            from apprise import Apprise
        except ModuleNotFoundError:
            raise InputError(
                "The nurse call cannot be used.", "apprise is not installed.", "Install the extra notify."
            ) from None
        self._apprise = Apprise()
        if not addresses or not all(self._apprise.add(each) for each in addresses):
            raise InputError(
                "The nurse call cannot be used.",
                "apprise does not know one of its addresses.",
                "Write one URL of apprise a line.",
            )

    @classmethod
    def of_file(cls, path: Path) -> AppriseCall:
        """Read the addresses from a file, one a line; they hold passwords, so keep it at mode 0600."""
        try:
            text = path.read_text("utf-8")
        except OSError:
            raise InputError(
                "The nurse call cannot be used.", "Its file cannot be read.", "Give another path."
            ) from None
        return cls([line.strip() for line in text.splitlines() if line.strip()])

    def send(self, delivery: Delivery) -> None:
        """Send it; raises NotDeliveredError when apprise could not."""
        alert = delivery.alert
        title = f"{alert['marks']} {alert['priority']} alert {alert['id']}, bed {alert['bed']}"
        body = f"{alert['text']} (for: {delivery.to}). Research use only; look at the bedside monitor."
        if not self._apprise.notify(title=title, body=body):
            raise NotDeliveredError("apprise could not send it")


def safe_url(url: str, what: str) -> str:
    """Return an address that patients' data may go to: https, or http on this machine; raises InputError."""
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
    if not parts.hostname or not safe:
        raise InputError(
            what,
            "Its address is no https URL, and what goes there names a patient.",
            "Write https://HOST/PATH; http is for this machine only.",
        )
    return url.rstrip("/") if parts.path == "/" else url


def request(method: str, url: str, body: Any, *, headers: dict[str, str]) -> Any:
    """Send JSON and return the answer's; raises NotDeliveredError, final for what is refused as it is."""
    import httpx

    try:
        answer = httpx.request(method, url, json=body, headers=headers, timeout=_ANSWER_S)
    except httpx.HTTPError as error:
        raise NotDeliveredError(type(error).__name__) from None
    if not answer.is_success:
        code = answer.status_code
        raise NotDeliveredError(f"HTTP status {code}", final=code in {400, 404, 405, 410, 412, 413, 422})
    try:
        return answer.json() if answer.content else None
    except ValueError:
        return None
