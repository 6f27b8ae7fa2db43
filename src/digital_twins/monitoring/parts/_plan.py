"""What all workers of a divided ward do alike: written by its front, read by each worker, in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from digital_twins._errors import NotFoundError

if TYPE_CHECKING:
    from digital_twins.storage import Database


class WardPlan(msgspec.Struct, frozen=True):
    """How a ward is watched.

    Attributes
    ----------
    parts
        Into how many parts it is divided.
    devices
        Who may speak.
    thresholds
        Text of the alert rules.
    capacity
        Patients of the whole ward at a time.
    outgoing
        Steps of alerts that go to each channel.
    chart_s
        As for `WardPart`.
    risk
        Name of the model file in the ward's folder; empty: none.
    """

    parts: int
    devices: tuple[str, ...]
    thresholds: str
    capacity: int
    outgoing: dict[str, tuple[str, ...]]
    chart_s: float
    risk: str = ""

    @property
    def capacity_of_part(self) -> int:
        """Patients of one part: half as many again as its share, for homes follow devices."""
        return min(self.capacity, -(-self.capacity * 3 // (2 * self.parts)) + 32)


_DECODER = msgspec.json.Decoder(WardPlan)


def write_plan(database: Database, plan: WardPlan) -> None:
    """Write a ward's plan durably; workers read it when they take a part over."""
    text = msgspec.json.encode(plan).decode()
    database.write(
        lambda cursor: cursor.execute(
            "INSERT INTO monitor_plan(one, plan) VALUES (1, ?)"
            " ON CONFLICT(one) DO UPDATE SET plan = excluded.plan",
            (text,),
        ).fetchall()
    )


def read_plan(database: Database) -> WardPlan:
    """Return a ward's plan.

    Raises
    ------
    NotFoundError
        No front has written one.
    """
    with database.read() as connection:
        row = connection.execute("SELECT plan FROM monitor_plan WHERE one = 1").fetchone()
    if row is None:
        raise NotFoundError(
            "The worker has no ward.",
            "The database holds no plan.",
            "Start twin monitor serve --workers first, on the same database.",
        )
    return _DECODER.decode(str(row[0]))
