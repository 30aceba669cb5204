from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from labctl.errors import StoreTakenError
from labctl.store.lease import lease, lessee_of
from labctl.store.sqlite import STORE_NAME

if TYPE_CHECKING:
    from pathlib import Path

HOLD_FOR_EVER = """
import sys
from pathlib import Path
from labctl.store.lease import lease

with lease(Path(sys.argv[1]), recorder_id="other", source="mqtt://host:1883"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / STORE_NAME


def hold(path: Path) -> None:
    with lease(path, recorder_id="mine", source="here"):
        pass


def test_nobody_holds_a_new_store(path):
    assert lessee_of(path) is None


def test_a_holder_is_named_while_it_holds_and_after(path):
    with lease(path, recorder_id="mine", source="mqtt://host:1883, rig r"):
        during = lessee_of(path)
    after = lessee_of(path)
    assert during is not None
    assert after is not None
    assert (during.recorder_id, during.source) == ("mine", "mqtt://host:1883, rig r")
    assert (during.is_alive, after.is_alive) == (True, False)


def test_a_store_that_another_process_holds_is_refused_until_that_is_killed(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_FOR_EVER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(
            StoreTakenError, match=rf"recorder other \(process {child.pid}, mqtt://host:1883\)"
        ):
            hold(path)
        child.kill()
    hold(path)


def test_a_store_by_another_name_is_the_same_store(path, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        lease(path, recorder_id="mine", source="here"),
        pytest.raises(StoreTakenError, match="mine"),
    ):
        hold(tmp_path / "link" / STORE_NAME)


def test_looking_who_holds_it_refuses_nobody(path):
    hold(path)
    for _ in range(20):
        assert lessee_of(path) is not None
        hold(path)
