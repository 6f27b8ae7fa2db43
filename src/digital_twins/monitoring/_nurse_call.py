"""Nurse call by webhook: every notice of the escalation leaves the machine, in order."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from digital_twins._errors import ConflictError, InputError
from digital_twins._logging import get_logger

if TYPE_CHECKING:
    from types import TracebackType

    from digital_twins.monitoring._alert import Notice

_log = get_logger(__name__)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANSWER_S = 5.0
_RETRY_S = (1.0, 2.0, 5.0, 10.0)
_MOST = 1000


class WebhookCall:
    """Posts each `Notice` as JSON to one address: ``with WebhookCall(url) as call``, then ``notify=call``.

    The body is ``{"to", "at_s", "alert"}``, with the alert as in ``GET alerts``. A notice goes out
    again until an answer of 2xx comes, so the receiver must bear a repetition (same ``alert.id`` and ``to``).

    Parameters
    ----------
    url
        Of the receiver; https, or http on this machine only, for a notice names a patient.
    token
        Sent as bearer token; empty: none.

    Attributes
    ----------
    delivered, failures
        Notices that were answered with 2xx, and attempts that were not.

    Raises
    ------
    InputError
        The address cannot be used.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
        if not parts.hostname or not safe:
            raise InputError(
                "The nurse call cannot be used.",
                "Its address is no https URL: a notice names a patient.",
                "Write https://HOST/PATH; http is for this machine only.",
            )
        self.delivered = self.failures = 0
        self._url, self._token = url, token
        self._waiting: collections.deque[Notice] = collections.deque()
        self._wake, self._end = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="nurse-call", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        with self._wake:
            self._wake.notify()
        self._thread.join(2 * _ANSWER_S)

    def __call__(self, notice: Notice) -> None:
        """Take a notice; raises ConflictError when a thousand wait: the trail has it as undelivered."""
        with self._wake:
            if len(self._waiting) >= _MOST:
                raise ConflictError(
                    "The nurse call was not sent.",
                    "Too many notices wait for the receiver.",
                    "See whether the receiver answers.",
                )
            self._waiting.append(notice)
            self._wake.notify()

    def _run(self) -> None:
        attempt = 0
        while (notice := self._next()) is not None:
            if self._post(notice):
                attempt = 0
                self.delivered += 1
                with self._wake:
                    self._waiting.popleft()
                continue
            self.failures += 1
            self._end.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
            attempt += 1

    def _next(self) -> Notice | None:
        with self._wake:
            while not self._waiting and not self._end.is_set():
                self._wake.wait()
            return None if self._end.is_set() else self._waiting[0]

    def _post(self, notice: Notice) -> bool:
        import httpx

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        body = {"to": notice.to, "at_s": notice.at_s, "alert": notice.alert}
        try:
            answer = httpx.post(self._url, json=body, headers=headers, timeout=_ANSWER_S)
        except httpx.HTTPError as error:
            _log.warning("nurse_call.failed", reason=type(error).__name__)
            return False
        if not answer.is_success:
            _log.warning("nurse_call.refused", status=answer.status_code)
        return answer.is_success
