"""Options that several commands share."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.errors import BadInputError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="LABCTL_DATA",
        help="Folder of store and outbox.  [default: labctl in your data folder]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'latest'.")
]


def read_settings(settings: list[str]) -> dict[str, Any]:
    """Return what --set key=value options say; a value is TOML, or else plain text.

    Raises:
        BadInputError: an option without "=".
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise BadInputError(
                f"--set {setting!r}: expected key=value, such as cooling_branch=true"
            )
        values[key.strip()] = _toml_value(text.strip())
    return values


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
