"""What a rig file may say of its broker, and what is said of a file that cannot be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from labctl.config import MqttConfig, load_rig
from labctl.errors import BadInputError
from labctl.stream.credentials import (
    PASSWORD_FILE_VARIABLE,
    PASSWORD_VARIABLE,
    TlsFiles,
    environment_password,
)
from labctl.stream.mqtt import broker_address
from labctl.stream.rig_broker import rig_broker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL = "mqtts://u:p@broker.lab"
posix = pytest.mark.skipif(os.name != "posix", reason="Windows keeps permissions elsewhere")


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """A certificate authority's certificate, and a client's certificate and key."""
    authority = trustme.CA()
    cert = authority.issue_cert(common_name="rig")
    found = {name: tmp_path / f"{name}.pem" for name in ("ca_file", "cert_file", "key_file")}
    authority.cert_pem.write_to_path(found["ca_file"])
    cert.cert_chain_pems[0].write_to_path(found["cert_file"])
    cert.private_key_pem.write_to_path(found["key_file"])
    found["key_file"].chmod(0o600)
    return found


def complaint(**keys) -> str:
    with pytest.raises(BadInputError) as caught:
        rig_broker(MqttConfig(**{"url": URL, **keys}), source="rig.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_and_version_reach_the_address(files):
    address = rig_broker(MqttConfig(url=URL, version="5", **files), source="rig.toml")
    assert address is not None
    assert (address.version, address.tls) == ("5", TlsFiles(**files))


def test_the_command_line_overrules_the_url_and_nothing_else(files):
    config = MqttConfig(url=URL, version="5", **files)
    address = rig_broker(config, source="rig.toml", url="mqtts://u:p@elsewhere.lab")
    assert address is not None
    assert (address.host, address.version, address.tls.ca_file) == (
        "elsewhere.lab",
        "5",
        files["ca_file"],
    )


def test_without_a_broker_there_is_none():
    assert rig_broker(MqttConfig(), source="rig.toml") is None


def test_a_certificate_will_do_instead_of_a_password(files, monkeypatch):
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert rig_broker(MqttConfig(url="mqtts://broker.lab", **files), source="rig.toml")


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_is_missing_is_named_with_its_key(files, key):
    files[key] = files[key].with_name("nowhere.pem")
    assert complaint(**files) == f"rig.toml: mqtt.{key} = {str(files[key])!r}: no such file"


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_folder_is_no_certificate(files, key, tmp_path):
    files[key] = tmp_path
    assert complaint(**files).startswith(
        f"rig.toml: mqtt.{key} = {str(tmp_path)!r}: cannot be read"
    )


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_what_is_no_certificate_is_told(files, key):
    files[key].write_text("hello")
    assert complaint(**files).startswith(f"rig.toml: mqtt.{key} = {str(files[key])!r}: cannot be")


def test_a_key_that_belongs_to_another_certificate_is_told(files):
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(files["key_file"])
    assert "mismatch" in complaint(**files)


def test_a_key_with_a_passphrase_asks_nobody(files):
    key = load_pem_private_key(files["key_file"].read_bytes(), None)
    encryption = BestAvailableEncryption(b"x")
    files["key_file"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    assert "has a passphrase" in complaint(**files)


@posix
@pytest.mark.parametrize("mode", [0o604, 0o666, 0o602])
def test_a_key_that_everybody_may_read_is_refused(files, mode):
    files["key_file"].chmod(mode)
    assert complaint(**files).startswith("rig.toml: mqtt.key_file = ")
    assert "chmod o=" in complaint(**files)


@posix
def test_a_key_that_a_group_may_read_is_not(files):
    files["key_file"].chmod(0o640)
    assert rig_broker(MqttConfig(url=URL, **files), source="rig.toml")


@pytest.mark.parametrize(("key", "partner"), [("cert_file", "key_file"), ("key_file", "cert_file")])
def test_certificate_and_key_go_together(files, key, partner):
    assert complaint(**{key: files[key]}) == f"rig.toml: mqtt.{key}: needs mqtt.{partner} too"


def test_tls_files_need_an_encrypted_connection(files):
    said = complaint(url="mqtt://localhost", ca_file=files["ca_file"])
    assert (
        said == "rig.toml: mqtt.ca_file: is for mqtts://, but the broker is mqtt://localhost:1883"
    )


def test_settings_for_a_broker_that_nobody_names_are_refused(files):
    assert "mqtt.ca_file: needs a broker" in complaint(url=None, ca_file=files["ca_file"])
    assert "mqtt.version: needs a broker" in complaint(url=None, version="5")


def test_the_paths_are_relative_to_the_rig_file(tmp_path, write_bench: Callable[..., Path]):
    rig = write_bench(tmp_path) / "rig.toml"
    rig.write_text(rig.read_text() + f'\n[mqtt]\nurl = "{URL}"\nca_file = "certs/ca.crt"\n')
    mqtt = load_rig(rig).mqtt
    assert mqtt.ca_file == tmp_path / "certs" / "ca.crt"
    assert mqtt.key_file is None


@pytest.fixture
def password_file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text("secret\n")
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.setenv(PASSWORD_FILE_VARIABLE, str(path))
    return path


def test_a_password_may_come_from_a_file(password_file):
    passwords = [broker_address(url).password for url in ("mqtts://rig@broker.lab", URL)]
    assert passwords == ["secret", "p"]


def test_the_variable_goes_before_the_file(password_file, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "other")
    assert environment_password() == "other"


def test_a_password_file_that_is_missing_is_told(password_file):
    password_file.unlink()
    with pytest.raises(BadInputError, match=rf"{PASSWORD_FILE_VARIABLE} = .*: no such file"):
        broker_address("mqtts://broker.lab")


@posix
def test_a_password_file_that_everybody_may_read_is_refused(password_file):
    password_file.chmod(0o644)
    with pytest.raises(BadInputError, match=rf"{PASSWORD_FILE_VARIABLE} = .*chmod o="):
        broker_address("mqtts://broker.lab")
