"""The registry: drivers, simulators and protocols by name, joined to the core by entry points."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

from labctl.errors import BadInputError

if TYPE_CHECKING:
    from pathlib import Path


def names(group: str) -> list[str]:
    """Return the names registered in an entry-point group such as "labctl.drivers"."""
    return sorted({entry.name for entry in entry_points(group=group)})


def find(group: str, name: str, *, source: str) -> Any:
    """Return the object registered under a name, or the one that "package.module:Name" names.

    Args:
        group: entry-point group, "labctl.drivers" for example.
        name: a registered name, or a module and an object in it with a colon between.
        source: what named it, for the error: "rig.toml: instruments.stage.driver".

    Raises:
        BadInputError: no such name, with those that there are; or its module cannot be imported.
    """
    for entry in entry_points(group=group):
        if entry.name == name:
            return _load(entry, source)
    if ":" in name:
        return _load(EntryPoint(name=name, value=name, group=group), source)
    known = ", ".join(names(group)) or "none"
    raise BadInputError(f"{source} = {name!r}: unknown {_singular(group)}; there are: {known}")


def load_file(path: Path, attribute: str) -> Any:
    """Return one object of a Python file of the user's own.

    Raises:
        BadInputError: no such file, it cannot be imported, or it has no such object.
    """
    spec = spec_from_file_location(f"labctl_script_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BadInputError(f"{path}: no such file")
    module = sys.modules[spec.name] = module_from_spec(spec)  # where pydantic looks for names
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's script raises while it is imported
        raise BadInputError(f"{path}: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise BadInputError(f"{path}: expected a {attribute}, such as the built-in protocols have")
    return getattr(module, attribute)


def _load(entry: EntryPoint, source: str) -> Any:
    module, _, attribute = entry.value.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BadInputError(f"{source} = {entry.name!r}: {error}") from error


def _singular(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")
