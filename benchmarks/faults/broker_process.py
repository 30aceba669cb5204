"""A child process with the embedded broker's software, on a port and with a password that stay.

    python -m benchmarks.faults.broker_process ARGUMENTS_AS_JSON

The embedded broker itself lives and dies with its run; this one can die alone and come back.
"""

from __future__ import annotations

import asyncio
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from benchmarks.faults.child import begin, tell
from labctl.stream.broker import PasswordPlugin


async def _serve(arguments: dict[str, Any]) -> None:
    plugin = f"{PasswordPlugin.__module__}.{PasswordPlugin.__qualname__}"
    credentials = {"username": arguments["username"], "password": arguments["password"]}
    listener = ListenerConfig(type=ListenerType.TCP, bind=f"127.0.0.1:{arguments['port']}")
    config = BrokerConfig(listeners={"default": listener}, plugins={plugin: credentials})
    await Broker(config).start()
    tell(ready=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    arguments = begin()
    asyncio.run(_serve(arguments))


if __name__ == "__main__":
    main()
