from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from labctl.documents import Document, Kind, Reason
from labctl.store.sqlite import STORE_NAME, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

UNITS = {"time_s": "s", "z_real_ohm": "ohm"}


class Script:
    """Writes the documents of one run, in order."""

    def __init__(self, run_id: str, start_time: str = "2026-03-01T08:00:00.000000+00:00") -> None:
        self.run_id = run_id
        self.start_time = start_time
        self.documents: list[Document] = []

    def add(self, kind: Kind, **body: Any) -> Document:
        document = Document(self.run_id, len(self.documents), kind, body)
        self.documents.append(document)
        return document

    def start(self) -> Document:
        return self.add(
            Kind.RUN_START,
            time=self.start_time,
            protocol="temperature_eis",
            parameters={"amplitude_v": 0.01},
            sample={"name": "LPSCl pellet 7"},
        )

    def descriptor(self, stream: str = "eis") -> Document:
        return self.add(Kind.DESCRIPTOR, stream=stream, units=UNITS)

    def frame(self, *points: tuple[float, float], stream: str = "eis") -> Document:
        times, values = ([point[i] for point in points] for i in (0, 1))
        columns = {"time_s": times, "z_real_ohm": values}
        return self.add(Kind.EVENT_PAGE, stream=stream, n_points=len(points), columns=columns)

    def event(self, **data: Any) -> Document:
        return self.add(Kind.EVENT, stream="steps", time=self.start_time, data=data)

    def stop(self, reason: Reason = Reason.COMPLETED, **actual_points: int) -> Document:
        return self.add(
            Kind.RUN_STOP,
            time="2026-03-01T09:00:00.000000+00:00",
            exit_status=reason.exit_status.value,
            reason=reason.value,
            expected_points=actual_points,
            actual_points=actual_points,
        )

    def whole(self) -> Sequence[Document]:
        """Return a run of two frames, three points and one event that ends well."""
        self.start()
        self.descriptor()
        self.frame((0.0, 100.0), (0.5, 101.0))
        self.event(step="eis-25C")
        self.frame((1.0, 102.0))
        self.stop(eis=3)
        return self.documents


@pytest.fixture
def script() -> Script:
    return Script("20260301-080000-abcd")


@pytest.fixture
def other_script() -> Script:
    return Script("20260302-080000-beef", "2026-03-02T08:00:00.000000+00:00")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / STORE_NAME)
    yield store
    store.close()
