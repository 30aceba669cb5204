"""Protocols over MQTT into a store, on simulated instruments, as a user's command runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from labctl import assembly
from labctl.documents import Reason
from labctl.store.reading import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from labctl.store.reading import StoredRun


@pytest.fixture
def run_protocol(tmp_path: Path) -> Callable[..., StoredRun]:
    """Runs a protocol on the bench in a folder, and gives the stored run."""

    def stored(
        protocol: str,
        folder: Path,
        parameters: Mapping[str, Any],
        *,
        reason: Reason = Reason.COMPLETED,
    ) -> StoredRun:
        report = assembly.run(
            assembly.RunRequest(
                protocol=protocol,
                rig=folder / "rig.toml",
                sample=folder / "sample.toml",
                parameters=parameters,
                data=tmp_path / "data",
                is_simulated=True,
            ),
            lambda _: None,
        )
        assert report.ending.reason is reason, report.ending.message
        assert report.undelivered == ""
        return open_store(report.store).run(report.run_id)

    return stored
