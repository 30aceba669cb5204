"""Capabilities: what a protocol can ask of an instrument, in small interfaces.

A channel asks for the capabilities its protocol needs, never for a driver class, so an analyser and
a source meter can stand in for a potentiostat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from labctl.instruments.dc_techniques import Ca, Cp, Cv, Lsv
    from labctl.instruments.techniques import (
        Eis,
        Frame,
        Geis,
        Identity,
        Ocp,
        PotentiostatLimits,
        StageLimits,
        StageReading,
    )


@runtime_checkable
class Driver(Protocol):
    """What every driver offers."""

    name: str

    async def open(self) -> Identity:
        """Open the connection and return who answers.

        Raises:
            UnreachableError: nothing answers at the address.
            WrongInstrumentError: another instrument answers; its identification is in the message.
        """
        ...

    async def close(self) -> None:
        """Free the address; never raises."""
        ...

    async def safe_state(self) -> None:
        """Switch outputs off (cell, heater); idempotent, may be called after any failure."""
        ...


@runtime_checkable
class TemperatureStage(Protocol):
    """A stage that can be sent to a temperature."""

    limits: StageLimits

    async def read(self) -> StageReading:
        """Return temperature, setpoint, heater output and status now."""
        ...

    async def ramp_to(self, temperature_k: float, *, rate_k_per_min: float) -> None:
        """Start towards a temperature, heater on; returns at once.

        Raises:
            LimitError: temperature or rate outside the stage's limits; nothing was sent.
        """
        ...


@runtime_checkable
class HasCell(Protocol):
    """A potentiostat whose cell can be switched off."""

    limits: PotentiostatLimits

    async def cell_off(self) -> None:
        """Stop whatever runs and disconnect the cell; idempotent."""
        ...


@runtime_checkable
class HasMultiplexer(HasCell, Protocol):
    """A potentiostat with a multiplexer, which connects it to one of several cells."""

    def at_input(self, number: int) -> HasCell:
        """Return the same potentiostat, measuring at one input, counted from 1.

        Each measurement switches the cell off and selects the input before it begins.

        Raises:
            LimitError: there is no such input.
        """
        ...


@runtime_checkable
class CanEis(HasCell, Protocol):
    """Measures impedance spectra."""

    def eis(self, parameters: Eis) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Eis.UNITS`, each as soon as it is measured.

        Ends with the cell off, also when the caller stops early.

        Raises:
            LimitError: a parameter outside the instrument's limits; nothing was sent.
            DeviceError: the instrument reported an error; the cell has been switched off.
            ReplyTimeoutError: silence for longer than the next point can take.
        """
        ...


@runtime_checkable
class CanOcp(HasCell, Protocol):
    """Measures the open-circuit potential."""

    def ocp(self, parameters: Ocp) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Ocp.UNITS`; the cell stays off.

        Raises:
            As `CanEis.eis`.
        """
        ...


@runtime_checkable
class CanGeis(HasCell, Protocol):
    """Measures impedance spectra with a current sine."""

    def geis(self, parameters: Geis) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Geis.UNITS`; ends and errors as `CanEis.eis`."""
        ...


@runtime_checkable
class CanLsv(HasCell, Protocol):
    """Sweeps the potential once."""

    def lsv(self, parameters: Lsv) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Lsv.UNITS`; ends and errors as `CanEis.eis`."""
        ...


@runtime_checkable
class CanCv(HasCell, Protocol):
    """Sweeps the potential to and fro."""

    def cv(self, parameters: Cv) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Cv.UNITS`; ends and errors as `CanEis.eis`."""
        ...


@runtime_checkable
class CanCa(HasCell, Protocol):
    """Holds a potential."""

    def ca(self, parameters: Ca) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Ca.UNITS`; ends and errors as `CanEis.eis`."""
        ...


@runtime_checkable
class CanCp(HasCell, Protocol):
    """Holds a current."""

    def cp(self, parameters: Cp) -> AsyncGenerator[Frame, None]:
        """Yield frames with the columns of `Cp.UNITS`; ends and errors as `CanEis.eis`."""
        ...


CAPABILITY_OF: dict[str, type] = {
    "eis": CanEis,
    "geis": CanGeis,
    "ocp": CanOcp,
    "lsv": CanLsv,
    "cv": CanCv,
    "ca": CanCa,
    "cp": CanCp,
}
"""What a potentiostat must offer for a technique, by its NAME, which is also the method's."""
