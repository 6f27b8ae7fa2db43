"""Peers, priors, rejections, merges, holds and retention in the ``/api`` door."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from anyio.from_thread import run_sync

from digital_twins._errors import ConflictError, InputError
from digital_twins.server._acting import agent_name
from digital_twins.server._models import (
    HoldRequest,
    HoldView,
    MergeRequest,
    MergeView,
    PeerView,
    PrefetchRequest,
    PrefetchView,
    RejectionRequest,
    RejectionView,
    RetentionView,
    WithdrawnView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw
    from fastapi import FastAPI

    from digital_twins.dicom import Merge, RetentionRule
    from digital_twins.server._services import Services

_WEB = "web"


def _looked(operations: Operations, kind: str) -> None:
    """Write the event of a list that names patients or their studies."""
    services = operations.services
    services.audit(services.auditor.acting(agent_name(_WEB)).event("R", kind))


@dataclass(frozen=True, slots=True)
class Operations:
    """What the routes work on.

    Attributes
    ----------
    rules
        The retention rules of the settings.
    on_changed
        Called in the event loop when patients' data changed, so that their twins are looked at again.
    """

    services: Services
    rules: Sequence[RetentionRule] = ()
    on_changed: Callable[[], None] = lambda: None


def add_operations(app: FastAPI, operations: Operations | None) -> None:
    """Add the routes; without a node behind them every one answers that there is none."""

    def node() -> Operations:
        if operations is None:
            raise InputError("This is not possible here.", "No DICOM node is behind this API.", "Run a node.")
        return operations

    _peers(app, node)
    _priors(app, node)
    _rejections(app, node)
    _merges(app, node)
    _retention(app, node)


def _peers(app: FastAPI, node: Callable[[], Operations]) -> None:
    @app.get("/peers", response_model=list[PeerView], summary="DICOM peers", tags=["peers"])
    def listed() -> list[PeerView]:
        return [PeerView(**asdict(state)) for state in node().services.peers.states()]

    @app.post(
        "/peers/{ae_title}/echo", response_model=PeerView, summary="Ask whether it is there", tags=["peers"]
    )
    def echo(ae_title: str) -> PeerView:
        return PeerView(**asdict(node().services.peers.echo(ae_title)))


def _priors(app: FastAPI, node: Callable[[], Operations]) -> None:
    def shown(entry: Any) -> PrefetchView:
        found = asdict(entry)
        found["patient_key"] = node().services.catalogue.patient_key(found.pop("patient_id"))
        return PrefetchView(**{name: found[name] for name in PrefetchView.model_fields})

    def entries() -> list[PrefetchView]:
        return [shown(entry) for entry in node().services.prefetch.entries()]

    @app.get("/prefetch", response_model=list[PrefetchView], summary="Priors under way", tags=["queues"])
    def listed() -> list[PrefetchView]:
        _looked(node(), "api.prefetch.list")
        return entries()

    @app.post("/prefetch", response_model=list[PrefetchView], summary="Fetch priors now", tags=["queues"])
    def request(asked: PrefetchRequest) -> list[PrefetchView]:
        found = node().services.prefetch.request(asked.patient_id, order=asked.order, agent=agent_name(_WEB))
        return [shown(entry) for entry in found]

    @app.post(
        "/prefetch/{source}/replay",
        response_model=list[PrefetchView],
        summary="Try again what was given up",
        tags=["queues"],
    )
    def replay(source: str) -> list[PrefetchView]:
        node().services.prefetch.replay(source, agent=agent_name(_WEB))
        return entries()


def _rejections(app: FastAPI, node: Callable[[], Operations]) -> None:
    def withdrawn(study_uid: str | None) -> list[WithdrawnView]:
        return [WithdrawnView(**asdict(each)) for each in node().services.rejections.withdrawn(study_uid)]

    @app.get(
        "/rejections", response_model=list[WithdrawnView], summary="Withdrawn DICOM objects", tags=["objects"]
    )
    def listed(study_uid: str | None = None) -> list[WithdrawnView]:
        _looked(node(), "api.rejections.list")
        return withdrawn(study_uid)

    @app.post("/rejections", response_model=RejectionView, summary="Write a rejection note", tags=["objects"])
    def reject(asked: RejectionRequest) -> RejectionView:
        rejections = node().services.rejections
        uids = tuple(asked.sop_uids) or rejections.objects_of(asked.study_uid, asked.series_uid)
        note = rejections.reject(uids, asked.reason, description=asked.description, agent=agent_name(_WEB))
        run_sync(node().on_changed)
        return RejectionView(note=note.sop_uid, reason=asked.reason, sop_uids=list(uids))

    @app.post(
        "/rejections/{note}/restore",
        response_model=list[WithdrawnView],
        summary="Undo a rejection note",
        tags=["objects"],
    )
    def restore(note: str) -> list[WithdrawnView]:
        services = node().services
        services.rejections.restore(note, agent=agent_name(_WEB))
        services.database.write(lambda cursor: services.stale.undo_in(cursor, note))
        run_sync(node().on_changed)
        return withdrawn(None)


def _merges(app: FastAPI, node: Callable[[], Operations]) -> None:
    def shown(merge: Merge) -> MergeView:
        key = node().services.catalogue.patient_key
        return MergeView(
            id=merge.id,
            prior=key(merge.prior[0]),
            surviving=key(merge.surviving[0]),
            studies=list(merge.studies),
            merged_utc=datetime.fromisoformat(merge.merged_utc),
            undone_utc=datetime.fromisoformat(merge.undone_utc) if merge.undone_utc else None,
        )

    @app.get("/merges", response_model=list[MergeView], summary="Patient merges", tags=["patients"])
    def listed() -> list[MergeView]:
        from digital_twins.dicom import merges

        _looked(node(), "api.merges.list")
        return [shown(each) for each in merges(node().services.dicom)]

    @app.post(
        "/patients/{key}/merge",
        response_model=MergeView,
        summary="File this patient's studies under another",
        tags=["patients"],
    )
    def merge(key: str, asked: MergeRequest) -> MergeView:
        services = node().services
        prior = services.catalogue.patient(key).patient_id
        made = merge_patient(
            services, (prior, asked.issuer), (asked.into, asked.into_issuer), agent=agent_name(_WEB)
        )
        run_sync(node().on_changed)
        return shown(made)

    @app.post("/merges/{merge_id}/undo", response_model=MergeView, summary="Undo a merge", tags=["patients"])
    def undo(merge_id: int) -> MergeView:
        services = node().services
        made = undo_merge(services, merge_id, agent=agent_name(_WEB))
        run_sync(node().on_changed)
        return shown(made)


def merge_patient(
    services: Services, prior: tuple[str, str], surviving: tuple[str, str], *, agent: str
) -> Merge:
    """Merge patients in the index and mark the twins of the one who goes; raises as `merge_patients` does."""
    from digital_twins.dicom import merge_patients

    made = merge_patients(services.dicom, prior, surviving, agent=agent)
    into = services.catalogue.patient_key(made.surviving[0])
    services.database.write(
        lambda cursor: mark_merged(cursor, services, patient_id=prior[0], into=into, merge=made.id)
    )
    return made


def mark_merged(cursor: apsw.Cursor, services: Services, *, patient_id: str, into: str, merge: int) -> None:
    """Mark the twins of a merged patient inside a transaction; ``into`` is the key of the other."""
    services.stale.merged_in(cursor, patient_id, into=into, reference=f"merge {merge}")


def merge_images(cursor: apsw.Cursor, services: Services, *, prior: str, surviving: str, agent: str) -> None:
    """Merge patients of an ADT A40 in the index inside a transaction; a repeated message changes nothing.

    HL7 names the assigning authority, images rarely do, so it is the patients without issuer that are merged.
    """
    from digital_twins.dicom import merge_in

    try:
        merge = merge_in(cursor, services.dicom, prior=(prior, ""), surviving=(surviving, ""), agent=agent)
    except ConflictError:
        return
    row: Any = cursor.execute("SELECT key FROM server_patient WHERE patient_id = ?", (surviving,)).fetchall()
    into = str(row[0][0]) if row else ""
    mark_merged(cursor, services, patient_id=prior, into=into, merge=merge)


def undo_merge(services: Services, merge_id: int, *, agent: str) -> Merge:
    """Undo a merge and its marks; raises as `unmerge_patients` does."""
    from digital_twins.dicom import unmerge_patients

    made = unmerge_patients(services.dicom, merge_id, agent=agent)
    services.database.write(lambda cursor: services.stale.undo_in(cursor, f"merge {merge_id}"))
    return made


def _retention(app: FastAPI, node: Callable[[], Operations]) -> None:
    @app.get(
        "/retention", response_model=RetentionView, summary="What the rules would remove", tags=["objects"]
    )
    def dry_run() -> RetentionView:
        _looked(node(), "api.retention.list")
        return ran(dry_run=True)

    @app.post("/retention", response_model=RetentionView, summary="Follow the rules now", tags=["objects"])
    def run() -> RetentionView:
        done = ran(dry_run=False)
        run_sync(node().on_changed)
        return done

    def ran(*, dry_run: bool) -> RetentionView:
        from digital_twins.dicom import Retention

        services = node().services
        retention = Retention(services.dicom, node().rules, protected=services.stale.objects_in)
        return RetentionView(**asdict(retention.run(dry_run=dry_run, agent=agent_name(_WEB))))

    def held() -> list[HoldView]:
        from digital_twins.dicom import holds

        return [HoldView.model_validate(each) for each in holds(node().services.dicom)]

    @app.get("/holds", response_model=list[HoldView], summary="Legal holds", tags=["objects"])
    def listed() -> list[HoldView]:
        _looked(node(), "api.holds.list")
        return held()

    @app.put("/holds/{study_uid}", response_model=list[HoldView], summary="Hold a study", tags=["objects"])
    def hold(study_uid: str, asked: HoldRequest) -> list[HoldView]:
        from digital_twins.dicom import hold_study

        hold_study(node().services.dicom, study_uid, reason=asked.reason, agent=agent_name(_WEB))
        return held()

    @app.delete("/holds/{study_uid}", response_model=list[HoldView], summary="End a hold", tags=["objects"])
    def release(study_uid: str) -> list[HoldView]:
        from digital_twins.dicom import release_study

        release_study(node().services.dicom, study_uid, agent=agent_name(_WEB))
        return held()
