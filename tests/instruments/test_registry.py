"""The registry: objects by the names of their entry points, or by module and name."""

from __future__ import annotations

import pytest

from labctl.errors import BadInputError
from labctl.instruments import registry
from labctl_drivers.lakeshore_336 import LakeShore336


def test_a_driver_is_found_by_its_registered_name() -> None:
    assert registry.find("labctl.drivers", "lakeshore-336", source="rig.toml") is LakeShore336


def test_a_driver_of_one_s_own_is_found_by_module_and_name() -> None:
    name = "labctl_drivers.lakeshore_336:LakeShore336"
    assert registry.find("labctl.drivers", name, source="rig.toml") is LakeShore336


def test_names_are_sorted() -> None:
    assert registry.names("labctl.drivers") == ["lakeshore-336", "palmsens-emstat4-hr"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("lakeshore", "unknown driver; there are: lakeshore-336, palmsens-emstat4-hr"),
        ("no_such_module:Driver", "No module named 'no_such_module'"),
        ("labctl_drivers.lakeshore_336:LakeShore999", "has no attribute 'LakeShore999'"),
    ],
)
def test_what_there_is_not_is_refused_with_where_it_was_named(name: str, complaint: str) -> None:
    with pytest.raises(BadInputError, match=complaint) as caught:
        registry.find("labctl.drivers", name, source="rig.toml: instruments.stage.driver")
    assert str(caught.value).startswith(f"rig.toml: instruments.stage.driver = '{name}': ")
