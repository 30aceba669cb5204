"""What a client proves itself with: passwords from the environment, certificates from files.

Nobody else on this machine may read a password or a key. Groups may: that is how a system hands a
key to a service.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import BadInputError

USERNAME_VARIABLE = "LABCTL_MQTT_USERNAME"
PASSWORD_VARIABLE = "LABCTL_MQTT_PASSWORD"  # noqa: S105 (the name of the variable)
PASSWORD_FILE_VARIABLE = "LABCTL_MQTT_PASSWORD_FILE"  # noqa: S105


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM format: who signs the broker's certificate, and our own certificate and key."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def named(self) -> dict[str, Path]:
        """Return the files that are given, by the name of their key in a rig file."""
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        return {name: file for name, file in files.items() if file is not None}


NO_TLS_FILES = TlsFiles()
"""Trust whom the system trusts, and show no certificate."""


def environment_password() -> str | None:
    """Return the password from the environment, or from the file that the environment names.

    Raises:
        BadInputError: no such file, or others may read it.
    """
    password = os.environ.get(PASSWORD_VARIABLE)
    named = os.environ.get(PASSWORD_FILE_VARIABLE)
    if password is not None or named is None:
        return password
    where = f"{PASSWORD_FILE_VARIABLE} = {named!r}"
    _check_readable(Path(named), where)
    _check_private(Path(named), where)
    return Path(named).read_text(encoding="utf-8").rstrip("\r\n")


def check_tls_files(files: TlsFiles, *, source: str) -> None:
    """See that TLS files can be used, before anything depends on it.

    Raises:
        BadInputError: one is missing, unreadable, alone, no certificate, or a key that others may
            read; names `source`, key and file.
    """
    given = files.named()
    for name, partner in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if name in given and partner not in given:
            raise BadInputError(f"{source}: mqtt.{name}: needs mqtt.{partner} too")
    places = {name: f"{source}: mqtt.{name} = {str(file)!r}" for name, file in given.items()}
    for name, file in given.items():
        _check_readable(file, places[name])
    if files.key_file is not None:
        _check_private(files.key_file, places["key_file"])
    _check_usable(files, places)


class _TlsSocket(ssl.SSLSocket):
    """A socket that hangs up when TLS fails; the client forgets to."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return what TLS files say, for a client: who is trusted and who we are.

    Raises:
        OSError: a file cannot be used.
    """
    context = ssl.create_default_context(cafile=files.ca_file)
    context.sslsocket_class = _TlsSocket
    if files.cert_file is not None:
        context.load_cert_chain(files.cert_file, files.key_file, password=_no_passphrase)
    return context


def _no_passphrase() -> str:
    """Refuse a key with a passphrase: OpenSSL would ask for it on the terminal."""
    raise ssl.SSLError(0, "the key has a passphrase, and nobody is there to type it")


def _check_readable(file: Path, where: str) -> None:
    try:
        with file.open("rb"):
            pass
    except FileNotFoundError as error:
        raise BadInputError(f"{where}: no such file") from error
    except OSError as error:
        raise BadInputError(f"{where}: cannot be read: {error.strerror}") from error


def _check_private(file: Path, where: str) -> None:
    """Raise BadInputError if anybody may read a secret. Windows keeps that elsewhere."""
    if os.name == "posix" and file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise BadInputError(f"{where}: everybody on this machine may read it; chmod o= {file}")


def _check_usable(files: TlsFiles, places: dict[str, str]) -> None:
    """Raise BadInputError unless OpenSSL takes the files; of each pair the first is named."""
    steps = {
        "ca_file": TlsFiles(ca_file=files.ca_file),
        "cert_file": TlsFiles(cert_file=files.cert_file, key_file=files.key_file),
    }
    for name in [name for name in steps if name in places]:
        try:
            tls_context(steps[name])
        except OSError as error:
            raise BadInputError(f"{places[name]}: cannot be used: {said_by_tls(error)}") from error


def said_by_tls(error: OSError) -> str:
    """Return what TLS complains of, without the numbers of OpenSSL's source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    text = error.strerror or str(error)
    return text.partition("] ")[2].partition(" (_ssl")[0] or text
