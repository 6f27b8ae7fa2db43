"""A client of the monitor's HTTP API, for the analysis app and for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from digital_twins._errors import DigitalTwinError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import httpx

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANSWER_S = 30.0


class MonitorRefusedError(DigitalTwinError):
    """The monitor did not answer, or answered with an error; it says why."""

    http_status = 502


class MonitorClient:
    """Asks a running monitor: ``with MonitorClient(url, token=...) as monitor``.

    Every method returns the JSON answer as documented in docs/reference/monitor.md.

    Parameters
    ----------
    url
        Of the monitor: https, or http on this machine only, for the answers name patients.
    token
        Of a member of the staff.
    transport
        Instead of the network; for tests.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    def __init__(self, url: str, *, token: str, transport: httpx.BaseTransport | None = None) -> None:
        import httpx

        parts = urlsplit(url)
        if not parts.hostname or not (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        ):
            raise InputError(
                "The monitor cannot be asked.",
                "Its address is no https URL: the answers name patients.",
                "Write https://HOST; http is for this machine only.",
            )
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_ANSWER_S, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def session(self) -> dict[str, Any]:
        """Return who the token stands for, and whether the patients are simulated."""
        return self._ask("GET", "/session")

    def patients(self) -> dict[str, Any]:
        """Return the tiles of all patients, the monitor's time and its counts."""
        return self._ask("GET", "/patients")

    def bed(self, patient: str) -> dict[str, Any]:
        """Return trends, forecasts and twin of one patient."""
        return self._ask("GET", f"/patients/{quote(patient, safe='')}")

    def history(
        self, patient: str, codes: Sequence[str], *, since_s: float, until_s: float
    ) -> dict[str, Any]:
        """Return readings of some vital signs within a span (seconds since 1970 UTC)."""
        asked = {"patient": patient, "codes": ",".join(codes), "since_s": since_s, "until_s": until_s}
        return self._ask("GET", "/history", params=asked)

    def thresholds(self) -> dict[str, Any]:
        """Return the alert rules that are in force."""
        return self._ask("GET", "/thresholds")

    def models(self) -> dict[str, Any]:
        """Return which models run, on what inputs."""
        return self._ask("GET", "/models")

    def what_if(self, patient: str, action: Mapping[str, float | None]) -> dict[str, Any]:
        """Return the outlook without and with an action; keys of `Action`."""
        return self._ask("POST", f"/patients/{quote(patient, safe='')}/what-if", json=dict(action))

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        import httpx

        try:
            answer = self._http.request(method, path, **more)
            data = answer.json()
        except httpx.HTTPError as error:
            raise MonitorRefusedError(
                "The monitor does not answer.",
                f"The connection failed: {type(error).__name__}.",
                "See whether `twin monitor serve` runs at that address.",
            ) from None
        except ValueError:
            data = {}
        if not answer.is_success or not isinstance(data, dict):
            told = data if isinstance(data, dict) else {}
            raise MonitorRefusedError(
                str(told.get("what") or "The monitor answered with an error."),
                str(told.get("why") or f"Its answer was {answer.status_code}."),
                str(told.get("fix") or "Check address and token."),
            )
        return data
