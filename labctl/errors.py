"""Every error labctl raises, one tree.

LabctlError
├── BadInputError (ValueError)            a file, key or argument that a person gave
│   ├── FileFormatError                   a data file that cannot be read as what it claims to be
│   └── LimitError                        a value outside what rig, instrument or sample allow
├── InstrumentError                       names the instrument
│   ├── UnreachableError (ConnectionError)    nothing answers at the address
│   ├── WrongInstrumentError                  something else answers
│   ├── ReplyTimeoutError (TimeoutError)      asking again may help
│   ├── ReplyError (ValueError)               an answer that makes no sense; holds the raw reply
│   └── DeviceError                           the instrument itself reports an error
├── UnsafeError                           outputs could not be switched off
├── NotStartedError                       a run was asked to end before it had begun
├── AnalysisError (ValueError)            data that do not support the result asked for
├── DocumentError (ValueError)            a document that breaks its schema
├── StoreError                            the store cannot do what was asked
│   └── StoreTakenError                   another process records into it
└── StreamError                           outbox, broker or recorder
"""


class LabctlError(Exception):
    """Base of all labctl errors; `exit_code` is what the command line ends with."""

    exit_code = 1


class BadInputError(LabctlError, ValueError):
    """Something a person gave is wrong; the message says what, where and what was expected."""

    exit_code = 2


class FileFormatError(BadInputError):
    """A data file that cannot be read as what it claims to be."""


class LimitError(BadInputError):
    """A value outside what the rig, the instrument or the sample allows."""


class InstrumentError(LabctlError):
    """Something is wrong with one instrument; the message begins with its name."""

    def __init__(self, instrument: str, message: str) -> None:
        super().__init__(f"{instrument}: {message}")
        self.instrument = instrument


class UnreachableError(InstrumentError, ConnectionError):
    """Nothing answers at the instrument's address."""

    exit_code = 2


class WrongInstrumentError(InstrumentError):
    """Another instrument than the rig file names answers at the address."""

    exit_code = 2


class ReplyTimeoutError(InstrumentError, TimeoutError):
    """The instrument did not answer within the deadline; asking again may help."""


class ReplyError(InstrumentError, ValueError):
    """The instrument's answer makes no sense; `reply` is what came, byte for byte."""

    def __init__(self, instrument: str, message: str, *, reply: bytes | str) -> None:
        super().__init__(instrument, f"{message} (reply: {reply!r})")
        self.reply = reply


class DeviceError(InstrumentError):
    """The instrument itself reports an error; `code` is the one from its manual."""

    def __init__(self, instrument: str, message: str, *, code: str) -> None:
        super().__init__(instrument, f"{message} (error {code})")
        self.code = code


class UnsafeError(LabctlError):
    """Outputs could not be switched off; the message says of which instruments."""


class NotStartedError(LabctlError):
    """A run was asked to end before it had begun; the message says how that leaves the rig."""


class AnalysisError(LabctlError, ValueError):
    """The data do not support the result that was asked for."""


class DocumentError(LabctlError, ValueError):
    """A document breaks its schema."""


class StoreError(LabctlError):
    """The store cannot do what was asked."""


class StoreTakenError(StoreError):
    """Another process records into the store; the message says which."""

    exit_code = 2


class StreamError(LabctlError):
    """Outbox, broker or recorder cannot do what was asked."""
