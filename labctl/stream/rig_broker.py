"""The broker that a rig file names, every file of it looked at before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import BadInputError
from labctl.stream.credentials import TlsFiles, check_tls_files
from labctl.stream.mqtt import BrokerAddress, broker_address

if TYPE_CHECKING:
    from labctl.config import MqttConfig


def rig_broker(config: MqttConfig, *, source: str, url: str | None = None) -> BrokerAddress | None:
    """Return the broker of a rig, None if its runs bring their own.

    Args:
        config: the section `[mqtt]` of a rig file, paths made relative to that file.
        source: the rig file, for errors.
        url: what overrules the section's `url`, and nothing else of it.

    Raises:
        BadInputError: no broker can be spoken to like that; names the file and the key.
    """
    url = url or config.url
    tls = TlsFiles(config.ca_file, config.cert_file, config.key_file)
    check_tls_files(tls, source=source)
    if url is None:
        _check_needs_no_url(config, tls, source)
        return None
    address = broker_address(url, version=config.version, tls=tls)
    for name in tls.named() if not address.is_encrypted else ():
        raise BadInputError(f"{source}: mqtt.{name}: is for mqtts://, but the broker is {address}")
    return address


def _check_needs_no_url(config: MqttConfig, tls: TlsFiles, source: str) -> None:
    """Refuse settings for a broker that nobody names: the run's own has no use for them."""
    set_keys = [*tls.named(), *(["version"] if config.version != "3.1.1" else [])]
    for name in set_keys:
        raise BadInputError(f"{source}: mqtt.{name}: needs a broker, in mqtt.url or --mqtt")
