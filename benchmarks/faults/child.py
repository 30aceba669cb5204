"""What the campaign's child processes share: they tell their parent what happens, line by line."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from labctl.clock import utc_now
from labctl.stream import mqtt, reconnect, transfer

# Fractions of the real waits, for the quick sample only.
_IMPATIENCE = (
    (transfer, "_SILENCE_S", 0.3),
    (reconnect, "_FIRST_WAIT_S", 0.02),
    (reconnect, "_LONGEST_WAIT_S", 0.2),
    (mqtt, "_TIMEOUT_S", 1.0),
    (mqtt, "_KEEPALIVE_S", 1),
)


def begin() -> dict[str, Any]:
    """Return the arguments of this child; from here on its warnings are told to the parent."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    logging.getLogger().addHandler(_Teller(logging.WARNING))
    if arguments.get("is_impatient"):
        for module, name, value in _IMPATIENCE:
            if not hasattr(module, name):
                raise AttributeError(f"{module.__name__}.{name} is no more; mend the campaign")
            setattr(module, name, value)
    return arguments


def tell(**facts: Any) -> None:
    """Tell the parent something, in one write: a kill leaves whole lines."""
    line = json.dumps({"utc": utc_now().isoformat(), **facts})
    os.write(1, f"{line}\n".encode())


class _Teller(logging.Handler):
    """Tells what is logged: what a person at this process would see."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the first line of a message, and the error behind it where there is one."""
        message, *_ = record.getMessage().splitlines() or [""]
        error = record.exc_info[1] if record.exc_info else None
        tell(log=message if error is None else f"{message}: {error!r}")
