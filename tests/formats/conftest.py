"""Where the real measured files are."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def reference_data():
    """The folder of real measured files; see its README for sources and licences."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("LABCTL_REFERENCE_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no reference data: set LABCTL_REFERENCE_DATA to their folder")
    return folder
