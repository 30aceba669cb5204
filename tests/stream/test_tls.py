"""TLS with certificates on both sides, on a real Mosquitto: what works, and what is said if not."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from labctl.stream.credentials import TlsFiles
from labctl.stream.link import Link
from labctl.stream.mqtt import BrokerAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.server

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2021, 1, 1, tzinfo=UTC)


class Workshop:
    """Makes certificates, and runs a Mosquitto that requires one."""

    def __init__(self, folder: Path, port: int, mosquitto) -> None:
        self.folder = folder
        self.port = port
        self._mosquitto = mosquitto
        self.authority = trustme.CA()
        self.ca_file = self.write("ca", self.authority.cert_pem)

    def write(self, name: str, *blobs: trustme.Blob) -> Path:
        path = self.folder / f"{name}.pem"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        for blob in blobs:
            blob.write_to_path(path, append=True)
        return path

    def client_files(self, authority: trustme.CA | None = None, **dates: datetime) -> TlsFiles:
        cert = (authority or self.authority).issue_cert(common_name="rig", **dates)
        cert_file = self.write("rig", *cert.cert_chain_pems)
        return TlsFiles(self.ca_file, cert_file, self.write("rig-key", cert.private_key_pem))

    @contextmanager
    def broker(self, host: str = "localhost", **dates: datetime) -> Iterator[None]:
        cert = self.authority.issue_cert(host, **dates)
        lines = [
            f"cafile {self.ca_file}",
            f"certfile {self.write('server', *cert.cert_chain_pems)}",
            f"keyfile {self.write('server-key', cert.private_key_pem)}",
            "require_certificate true",
        ]
        with self._mosquitto(more=lines):
            yield

    def address(self, files: TlsFiles, version: str = "3.1.1") -> BrokerAddress:
        return BrokerAddress("localhost", self.port, is_encrypted=True, tls=files, version=version)


@pytest.fixture
def workshop(tmp_path, free_port, mosquitto) -> Workshop:
    return Workshop(tmp_path, free_port, mosquitto)


@pytest.fixture
def refusal(outbox_path, points, problem_of):
    """Returns what a link says that is not let in, once it has proved that its data are kept."""

    async def refused(address: BrokerAddress, words: str) -> str:
        with Link(outbox_path=outbox_path, rig="bench", mqtt=address) as link:
            await link.put(points(1)[0])
            problem = await problem_of(link, words)
            assert await link.drain(0) == 1
        return problem

    return refused


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_with_the_right_certificates_documents_are_recorded(
    workshop, version, outbox_path, store_path, points
):
    address = workshop.address(workshop.client_files(), version)
    with (
        workshop.broker(),
        Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path) as link,
    ):
        for document in points(100):
            await link.put(document)
        assert await link.drain(20) == 0


async def test_without_a_certificate_nobody_gets_in(workshop, refusal):
    with workshop.broker():
        address = workshop.address(TlsFiles(workshop.ca_file))
        assert "certificate" in await refusal(address, "broker")


async def test_a_broker_of_another_authority_is_not_trusted(workshop, refusal):
    files = workshop.client_files()
    other = workshop.write("other-ca", trustme.CA().cert_pem)
    with workshop.broker():
        address = workshop.address(TlsFiles(other, files.cert_file, files.key_file))
        assert re.search("self.signed|issuer", await refusal(address, "not to be trusted"))


async def test_a_private_authority_is_not_trusted_unless_named(workshop, refusal):
    files = workshop.client_files()
    with workshop.broker():
        address = workshop.address(TlsFiles(None, files.cert_file, files.key_file))
        assert re.search("self.signed|issuer", await refusal(address, "not to be trusted"))


async def test_a_broker_under_another_name_is_not_trusted(workshop, refusal):
    with workshop.broker("broker.lab"):
        address = workshop.address(workshop.client_files())
        assert "not valid for 'localhost'" in await refusal(address, "not to be trusted")


async def test_a_broker_whose_certificate_has_expired_is_not_trusted(workshop, refusal):
    with workshop.broker(not_before=LONG_AGO, not_after=LATER):
        address = workshop.address(workshop.client_files())
        assert "certificate has expired" in await refusal(address, "not to be trusted")


async def test_a_client_whose_certificate_has_expired_does_not_get_in(workshop, refusal):
    files = workshop.client_files(not_before=LONG_AGO, not_after=LATER)
    with workshop.broker():
        assert "certificate" in await refusal(workshop.address(files), "broker")


async def test_a_client_of_another_authority_does_not_get_in(workshop, refusal):
    files = workshop.client_files(trustme.CA())
    with workshop.broker():
        assert "certificate" in await refusal(workshop.address(files), "broker")


async def test_a_new_certificate_is_taken_up_without_a_restart(
    workshop, outbox_path, store_path, points, problem_of
):
    address = workshop.address(workshop.client_files(not_before=LONG_AGO, not_after=LATER))
    with (
        workshop.broker(),
        Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path) as link,
    ):
        await link.put(points(1)[0])
        await problem_of(link, "certificate")
        workshop.write("rig-key")  # half written: the key is empty now
        await problem_of(link, "TLS files")
        workshop.client_files()
        assert await link.drain(20) == 0


async def test_a_client_that_speaks_without_tls_is_told_what_may_be_wrong(workshop, refusal):
    with workshop.broker():
        address = BrokerAddress("localhost", workshop.port)
        assert "does it ask for TLS" in await refusal(address, "hung up")
