"""The queues of outgoing DICOM objects in the ``/api`` door."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from digital_twins._errors import NotFoundError
from digital_twins.server._acting import agent_name
from digital_twins.server._models import DeadLetter, QueueDetail, QueueView

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from digital_twins.dicom import SendQueues


def add_queues(
    app: FastAPI, queues: SendQueues | None, *, audit: Callable[[Literal["R", "U"], str, str, None], None]
) -> None:
    """Add the routes under ``/queues``; without queues the list is empty and every name unknown."""

    @app.get("/queues", response_model=list[QueueView], summary="Queues of DICOM objects", tags=["queues"])
    def listed() -> list[QueueView]:
        return [] if queues is None else [QueueView(**asdict(state)) for state in queues.states()]

    @app.get(
        "/queues/{destination}",
        response_model=QueueDetail,
        summary="A queue with its dead letters",
        tags=["queues"],
    )
    def one(destination: str) -> QueueDetail:
        letters = [
            DeadLetter(
                study_uid=each.study_uid, sop_uid=each.sop_uid, attempts=each.attempts, error=each.error
            )
            for each in known().dead_letters(destination)
        ]
        audit("R", "api.queue.read", destination, None)
        return QueueDetail(**asdict(known().state(destination)), dead_letters=letters)

    @app.post(
        "/queues/{destination}/pause", response_model=QueueView, summary="Send nothing more", tags=["queues"]
    )
    def pause(destination: str) -> QueueView:
        known().pause(destination, agent=agent_name("web"))
        return QueueView(**asdict(known().state(destination)))

    @app.post(
        "/queues/{destination}/resume", response_model=QueueView, summary="End a pause", tags=["queues"]
    )
    def resume(destination: str) -> QueueView:
        known().resume(destination, agent=agent_name("web"))
        return QueueView(**asdict(known().state(destination)))

    @app.post(
        "/queues/{destination}/replay",
        response_model=QueueView,
        summary="Send the dead letters again",
        tags=["queues"],
    )
    def replay(destination: str) -> QueueView:
        known().replay(destination, agent=agent_name("web"))
        return QueueView(**asdict(known().state(destination)))

    def known() -> SendQueues:
        if queues is None:
            raise NotFoundError(
                "There are no queues.", "This node forwards nothing.", "Add a rule to [[dicom_routes]]."
            )
        return queues
