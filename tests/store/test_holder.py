"""A data folder's holder is the process that runs there now, whatever files say."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from labctl.errors import BadInputError
from labctl.store.holder import Holder, held_folder, holder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = Holder(pid=1, run_id="run-1", since="2026-11-25T16:33:43.000000+00:00")
HOLDING = """
import os, pathlib, sys
from labctl.store.holder import Holder, held_folder
holder = Holder(pid=os.getpid(), run_id="run-2", since="2026-11-25T16:33:43+00:00")
with held_folder(pathlib.Path(sys.argv[1]), holder):
    print("holding", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a process that holds the folder until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            yield process
        finally:
            process.kill()


def test_an_empty_folder_is_held_by_nobody(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert holder_of(tmp_path / "nowhere") is None


def test_a_folder_is_held_for_as_long_as_its_run_lasts(tmp_path: Path) -> None:
    with held_folder(tmp_path, HERE):
        assert holder_of(tmp_path) == HERE
    assert holder_of(tmp_path) is None
    assert not (tmp_path / "run.json").exists()


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        with (
            pytest.raises(
                BadInputError,
                match=rf"run run-2 \(process {process.pid}, since 2026-11-25T16:33:43 UTC\)",
            ),
            held_folder(tmp_path, HERE),
        ):
            pytest.fail("both hold it")
        assert holder_of(tmp_path) == Holder(
            pid=process.pid, run_id="run-2", since="2026-11-25T16:33:43+00:00"
        )


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        process.kill()
        process.wait()
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == "run-2"
    assert holder_of(tmp_path) is None
    with held_folder(tmp_path, HERE):
        assert holder_of(tmp_path) == HERE


def test_who_asks_does_not_keep_a_run_from_beginning(tmp_path: Path) -> None:
    with held_folder(tmp_path, HERE):
        pass
    asking = "import pathlib, sys\nfrom labctl.store.holder import holder_of\n"
    asking += "print('asking', flush=True)\nwhile True: holder_of(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", asking, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(100):
                with held_folder(tmp_path, HERE):
                    pass
        finally:
            process.kill()


def test_a_holder_that_cannot_be_read_about_is_one_all_the_same(tmp_path: Path) -> None:
    with held_folder(tmp_path, HERE):
        (tmp_path / "run.json").unlink()
        holder = holder_of(tmp_path)
    assert holder is not None
    assert holder.run_id == ""
