"""The serial settings of the drivers, as they arrive at the port that pyserial opens."""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
import serial

from labctl.errors import UnreachableError
from labctl.instruments.transport import VisaTransport
from labctl_drivers.lakeshore_336 import LakeShore336
from labctl_drivers.palmsens_emstat4_hr import PalmSensEmStat4Hr

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Lets pyvisa-py open pyserial's own loop-back port, which takes every setting."""
    ports: list[Any] = []
    open_port = serial.serial_for_url

    def open_loopback(address: str, **settings: Any) -> Any:
        ports.append(open_port("loop://", **settings))
        return ports[-1]

    monkeypatch.setattr(serial, "serial_for_url", open_loopback)
    yield ports
    for port in ports:
        port.close()


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (LakeShore336, (57_600, 7, serial.PARITY_ODD, serial.STOPBITS_ONE, False)),
        (PalmSensEmStat4Hr, (921_600, 8, serial.PARITY_NONE, serial.STOPBITS_ONE, True)),
    ],
)
def test_a_driver_s_serial_settings_reach_the_port(
    loopback: list[Any], driver: type[Any], expected: tuple[object, ...]
) -> None:
    line = VisaTransport("it", "ASRL1::INSTR", driver.LINK, library="@py")
    (port,) = loopback
    assert (port.baudrate, port.bytesize, port.parity, port.stopbits, port.rtscts) == expected
    line.close()


def test_a_serial_write_may_wait_half_a_second_and_no_longer(loopback: list[Any]) -> None:
    line = VisaTransport("it", "ASRL1::INSTR", PalmSensEmStat4Hr.LINK, library="@py")
    (port,) = loopback
    line.write("i")
    assert port.write_timeout == 0.5
    assert line.read() == "i"
    line.close()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
@pytest.mark.realtime
def test_a_terminal_that_nobody_reads_does_not_hold_a_write() -> None:
    there, here = os.openpty()
    address = f"ASRL{os.ttyname(here)}::INSTR"
    line = VisaTransport("it", address, PalmSensEmStat4Hr.LINK, library="@py")
    began_s = perf_counter()
    with pytest.raises(UnreachableError, match="it: no connection at ASRL"):
        line.write("x" * 100_000)
    assert perf_counter() - began_s < 1.9  # pyvisa's own limit is 2 s
    line.close()
    assert perf_counter() - began_s < 3.0
    os.close(there)
    os.close(here)
