"""What `labctl run` writes where nobody sits at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.cli.progress import shown_progress
from labctl.run.progress import Progress

if TYPE_CHECKING:
    import pytest


def test_a_trouble_is_a_line_when_it_begins_and_when_it_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trouble = "publisher: not confirmed by any recorder for more than 30 s"
    with shown_progress() as observer:
        for said in ("", trouble, trouble, ""):
            observer(Progress(step="eis", steps_total=1, trouble=said))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] eis, about 0 s left",
        f"labctl: warning: {trouble}",
        "labctl: all is well again",
    ]
