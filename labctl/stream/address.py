"""Where a broker is and who we are to it: from a URL, the environment and files."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from labctl.errors import BadInputError
from labctl.stream.credentials import (
    NO_TLS_FILES,
    PASSWORD_VARIABLE,
    USERNAME_VARIABLE,
    TlsFiles,
    environment_password,
)

MqttVersion = Literal["3.1.1", "5"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXPECTED = "expected mqtt://host:port or mqtts://host"
_LABEL = re.compile(r"\w(?:[\w-]*\w)?", re.ASCII)
_LONGEST_HOST = 253


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens and who we are to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    is_encrypted: bool = False
    version: MqttVersion = "3.1.1"
    tls: TlsFiles = NO_TLS_FILES

    def __str__(self) -> str:
        return f"{'mqtts' if self.is_encrypted else 'mqtt'}://{self.host}:{self.port}"


def broker_address(
    url: str,
    *,
    version: MqttVersion = "3.1.1",
    tls: TlsFiles = NO_TLS_FILES,
    allow_insecure: bool = False,
) -> BrokerAddress:
    """Return the broker that a URL names: mqtt://user:password@host:port, or mqtts://.

    Credentials may come from LABCTL_MQTT_USERNAME and LABCTL_MQTT_PASSWORD instead, the password
    also from the file that LABCTL_MQTT_PASSWORD_FILE names.

    Raises:
        BadInputError: not such a URL; a password file that cannot be used; or a broker beyond this
            machine without TLS and a password or certificate, unless `allow_insecure` says that
            this is meant.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname or ""
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{_shown(url)}: {_EXPECTED}") from error
    if not _is_host(host) or parts.path.strip("/") or parts.query:
        raise BadInputError(f"{_shown(url)}: {_EXPECTED}")
    address = BrokerAddress(
        host=host,
        port=port,
        username=unquote(parts.username) if parts.username else os.environ.get(USERNAME_VARIABLE),
        password=unquote(parts.password) if parts.password else environment_password(),
        is_encrypted=parts.scheme == "mqtts",
        version=version,
        tls=tls,
    )
    if not allow_insecure:
        _check_secure(address)
    return address


def _is_host(host: str) -> bool:
    """Return whether a name could be a machine's, or is an address; nobody is asked."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return True
    try:
        labels = host.encode("idna").decode("ascii").removesuffix(".").split(".")
    except UnicodeError:  # an empty label, or one of more than 63 characters
        return False
    return len(host) <= _LONGEST_HOST and all(_LABEL.fullmatch(label) for label in labels)


def _shown(url: str) -> str:
    """Return a URL that may be shown: without its credentials."""
    return url.rpartition("@")[2] if "@" in url else url


def _check_secure(address: BrokerAddress) -> None:
    """Raise BadInputError if documents or a password would cross a network unprotected."""
    is_known = bool(address.password) or address.tls.cert_file is not None
    if _is_loopback(address.host) or (address.is_encrypted and is_known):
        return
    raise BadInputError(
        f"{address}: a broker on another machine needs mqtts:// and a password"
        f" (in the URL or in {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}) or a client certificate"
    )


def _is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
