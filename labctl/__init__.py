"""Instrument control and lab automation for solid-state battery electrochemistry.

`labctl.open_store(path)` opens the data of past and running runs; everything else is imported
from the module it lives in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.store.reading import open_store

__all__ = ["open_store"]


def __getattr__(name: str) -> Any:
    """Import `open_store` when it is asked for: `import labctl` stays instant."""
    if name != "open_store":
        raise AttributeError(f"module 'labctl' has no attribute {name!r}")
    from labctl.store.reading import open_store

    return open_store
