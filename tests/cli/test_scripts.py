"""Protocols in a script of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCRIPT = """
from labctl.instruments.capabilities import CanOcp
from labctl.instruments.techniques import Ocp
from labctl.run.protocol import Parameters, PlannedStep, Protocol


class RestParameters(Parameters):
    n_rests: int = 2


REST = Ocp(duration_s=5.0)


def plan(parameters, sample):
    return [
        PlannedStep(key=f"rest-{i}", kind="ocp", expected_duration_s=5.0, technique=REST)
        for i in range(parameters.n_rests)
    ]


async def rest(run, parameters):
    for step in plan(parameters, run.sample):
        await run.ocp(key=step.key, parameters=REST)


PROTOCOL = Protocol(
    name="rest", script=rest, parameters=RestParameters, plan=plan,
    capabilities=(CanOcp,), summary="rests",
)
"""


@pytest.fixture(autouse=True)
def _bench(tmp_path: Path, write_bench: Callable[..., Path]) -> None:
    write_bench(tmp_path)


def test_a_script_of_the_user_s_own_runs(labctl: Any, tmp_path: Path) -> None:
    (tmp_path / "rest.py").write_text(SCRIPT)
    said = labctl("run", "rest.py", "--rig", "rig.toml", "--simulate", "--set", "n_rests=3")
    assert said.exit_code == 0, said.err
    assert "completed" in said.out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "rest.py: no such file"),
        ("x = 1", "rest.py: expected a PROTOCOL"),
        ("PROTOCOL = 1", "expected a labctl Protocol"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_bad_script_is_one_clear_line(
    labctl: Any, tmp_path: Path, text: str | None, complaint: str
) -> None:
    if text is not None:
        (tmp_path / "rest.py").write_text(text)
    said = labctl("run", "rest.py", "--rig", "rig.toml", "--simulate")
    assert said.exit_code == 2
    assert complaint in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 1
