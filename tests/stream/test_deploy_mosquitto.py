"""The files in deploy/mosquitto, on a real Mosquitto: who gets in, and who may do what."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labctl.store.reading import open_store
from labctl.store.sqlite import SqliteStore
from labctl.stream.credentials import TlsFiles, tls_context
from labctl.stream.link import Link
from labctl.stream.mqtt import BrokerAddress, BrokerLostError, connected
from labctl.stream.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.server

DEPLOY = Path(__file__).parents[2] / "deploy" / "mosquitto"
ROLES = ["rig", "recorder", "viewer", "operator"]
VERSIONS = ["3.1.1", "5"]

STATE = {"status", "channel/cell-1/status", "telemetry/stage", "reply/c1", "alert/a1"}
KINDS = ("doc", "ack", "resend")
RUN = {f"run/r1/{kind}" for kind in KINDS}
PROBES = {f"run/probe-{tried}/{kind}" for tried in ("publish", "read") for kind in KINDS}
COMMANDS = {"cmd/start", "cmd/abort"}
BARE = {"run/r1/doc/more", "else", "cmd"}
EVERYTHING = STATE | RUN | PROBES | COMMANDS | BARE

DOCUMENTS = {"run/r1/doc", "run/probe-publish/doc", "run/probe-read/doc"}
WATERMARKS = {"run/r1/ack", "run/probe-publish/ack", "run/probe-read/ack"}
RESENDS = {"run/r1/resend", "run/probe-publish/resend", "run/probe-read/resend"}
PUBLISHES = {
    "rig": STATE | DOCUMENTS | {"run/probe-read/ack", "run/probe-read/resend"},
    "recorder": WATERMARKS | RESENDS | {"run/probe-read/doc"},
    "viewer": set(),
    "operator": COMMANDS | {"cmd"},  # cmd/# takes its parent in
}
READS = {
    "rig": COMMANDS | {"cmd", "status"} | WATERMARKS | RESENDS | {"run/probe-publish/doc"},
    "recorder": DOCUMENTS | {"run/probe-publish/ack", "run/probe-publish/resend"},
    "viewer": STATE | RUN | PROBES | {"run/r1/doc/more"},
    "operator": STATE | RUN | PROBES | {"run/r1/doc/more"},
}
LAST_READ = {"rig": "run/r1/ack", "recorder": "run/r1/doc"}


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"the program {name} is not installed")
    return found


def blocks(language: str) -> list[str]:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in (one, other)]


@dataclass(frozen=True)
class Site:
    """A folder with everything installed as README says, and the ports to listen on."""

    folder: Path
    port: int
    tls_port: int

    def address(self, user: str) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, user, f"{user}'s password")

    def tls_address(self, user: str) -> BrokerAddress:
        certs = self.folder / "certs"
        files = TlsFiles(certs / "ca.crt", certs / f"{user}.crt", certs / f"{user}.key")
        password = f"{user}'s password"
        return BrokerAddress(
            "localhost", self.tls_port, user, password, is_encrypted=True, tls=files
        )

    @contextmanager
    def broker(self) -> Iterator[None]:
        command = [program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            said: list[str] = []
            try:
                for line in process.stderr:
                    said.append(line)
                    if "running" in line:
                        break
                assert process.poll() is None, said
                yield
            finally:
                process.kill()


def copied(site: Site, folder: Path) -> Site:
    """Return the same site in another folder and on other ports."""
    shutil.copytree(site.folder, folder)
    copy = Site(folder, *free_ports())
    config = (folder / "mosquitto.conf").read_text().replace(str(site.folder), str(folder))
    for old, new in ((site.port, copy.port), (site.tls_port, copy.tls_port)):
        config = config.replace(f"listener {old} ", f"listener {new} ")
    (folder / "mosquitto.conf").write_text(config)
    return copy


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """The files as they are in git, but for folder and ports; and a witness who may everything."""
    folder = tmp_path_factory.mktemp("mosquitto")
    site = Site(folder, *free_ports())
    certificates = blocks("sh")[0].replace("broker.lab.example", "localhost")
    (folder / "certs").mkdir()
    program("openssl")
    subprocess.run(
        ["sh", "-e", "-c", certificates], cwd=folder / "certs", check=True, capture_output=True
    )
    config = (DEPLOY / "mosquitto.conf").read_text()
    config = config.replace("/etc/mosquitto/", f"{folder}/")
    config = config.replace("listener 1883 ", f"listener {site.port} ")
    config = config.replace("listener 8883\n", f"listener {site.tls_port} 127.0.0.1\n")
    as_root = "user root\n" if os.name == "posix" and os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(config + as_root)
    witness = "\nuser witness\ntopic readwrite #\n"
    (folder / "acl").write_text((DEPLOY / "acl").read_text() + witness)
    (folder / "passwords").touch(mode=0o600)
    for user in [*ROLES, "witness"]:
        passwords = [program("mosquitto_passwd"), "-b", str(folder / "passwords")]
        subprocess.run([*passwords, user, f"{user}'s password"], check=True)
    return site


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[Site]:
    with site.broker():
        yield site


async def topics_until(connection, last: bytes) -> set[str]:
    """Return below which topics of the rig messages came before the last one."""
    topics: set[str] = set()
    while True:
        for message in await connection.receive(100):
            connection.acknowledge(message)
            if message.payload == last:
                return topics
            topics.add(message.topic.removeprefix("labctl/bench/"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", ROLES)
async def test_each_role_can_publish_what_it_should_and_nothing_else(running, role, version):
    address = replace(running.address(role), version=version)
    async with connected(running.address("witness")) as witness, connected(address) as speaker:
        await witness.subscribe("#")
        refused = 0
        for topic in [f"labctl/bench/{each}" for each in EVERYTHING] + ["elsewhere"]:
            try:
                await speaker.publish(topic, b"x")
            except BrokerLostError:
                refused += 1
        await witness.publish("end", b"end")
        assert await topics_until(witness, b"end") == PUBLISHES[role]
        assert refused == (len(EVERYTHING) + 1 - len(PUBLISHES[role]) if version == "5" else 0)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("subscription", ["#", "labctl/bench/#", "labctl/+/+/+/+"])
async def test_each_role_can_read_what_it_should_and_nothing_else(running, role, subscription):
    last = LAST_READ.get(role, "status")
    witness_s, role_s = running.address("witness"), running.address(role)
    async with connected(witness_s) as witness, connected(role_s) as reader:
        await reader.subscribe(subscription)
        await reader.subscribe(f"labctl/bench/{last}")
        for topic in [f"labctl/bench/{each}" for each in EVERYTHING] + ["elsewhere"]:
            await witness.publish(topic, b"x")
        await witness.publish(f"labctl/bench/{last}", b"end")
        read = await topics_until(reader, b"end")
    if subscription == "labctl/+/+/+/+":
        read |= {each for each in READS[role] if each.count("/") != 2}
    assert read == READS[role]


@pytest.mark.parametrize("who", [{"username": None, "password": None}, {"password": "guess"}])
@pytest.mark.parametrize("over_tls", [False, True])
async def test_nobody_gets_in_without_a_password(running, who, over_tls):
    address = running.tls_address("rig") if over_tls else running.address("rig")
    with pytest.raises(BrokerLostError, match=r"[Nn]ot authori[sz]ed"):
        async with connected(replace(address, **who)):
            pass


async def test_over_the_network_a_certificate_is_required(running):
    address = replace(running.tls_address("rig"), tls=TlsFiles(running.folder / "certs" / "ca.crt"))
    with pytest.raises(BrokerLostError, match="certificate"):
        async with connected(address):
            pass


def test_without_tls_it_listens_on_this_machine_only():
    listeners = re.findall(r"(?m)^listener (.*)$", (DEPLOY / "mosquitto.conf").read_text())
    assert listeners == ["1883 127.0.0.1", "8883"]


def test_the_certificates_satisfy_strict_verification(site):
    certs = site.folder / "certs"
    strict = ["-x509_strict", "-CAfile", str(certs / "ca.crt")]
    for name, purpose in [("server", "sslserver"), ("rig", "sslclient")]:
        verify = [program("openssl"), "verify", *strict, "-purpose", purpose]
        subprocess.run([*verify, str(certs / f"{name}.crt")], check=True, capture_output=True)
    assert tls_context(site.tls_address("rig").tls).get_ca_certs()


@asynccontextmanager
async def at_work(recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_rig_and_a_recorder_work_through_it(
    running, over_tls, version, outbox_path, store_path, points, caplog
):
    address = running.tls_address if over_tls else running.address
    rig, recorder_s = (replace(address(user), version=version) for user in ("rig", "recorder"))
    with closing(SqliteStore(store_path)) as store:
        async with at_work(Recorder(store, recorder_s, recorder_id="pc", rig="bench")):
            with Link(outbox_path=outbox_path, rig="bench", mqtt=rig, recorders=["pc"]) as link:
                for document in points(300):
                    await link.put(document)
                assert await link.drain(20) == 0
                assert link.problem is None
    assert open_store(store_path).run("r1").summary.n_points == 300
    assert "refuse" not in caplog.text


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_restart_is_got_over_with_nothing_lost(
    site, version, outbox_path, store_path, points, tmp_path
):
    site = copied(site, tmp_path / "site")
    rig, recorder_s = (replace(site.address(user), version=version) for user in ROLES[:2])
    with (
        closing(SqliteStore(store_path)) as store,
        Link(outbox_path=outbox_path, rig="bench", mqtt=rig, recorders=["pc"]) as link,
    ):
        async with at_work(Recorder(store, recorder_s, recorder_id="pc", rig="bench")):
            for part in range(2):
                with site.broker():
                    for document in points(100, first=100 * part):
                        await link.put(document)
                    assert await link.drain(20) == 0
    assert open_store(store_path).run("r1").columns("eis")["seq"].tolist() == list(range(200))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("user", ["viewer", "recorder", "operator"])
async def test_another_role_in_the_rig_s_place_is_told_and_its_data_kept(
    running, user, version, outbox_path, points, problem_of
):
    address = replace(running.address(user), version=version)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=address) as link:
        await link.put(points(1)[0])
        problem = await problem_of(link, f"user {user!r}")
        assert await link.drain(0) == 1
    said = {
        "3.1.1": "may not publish labctl/bench/run/+/doc",
        "5": "the broker refuses a publish to labctl/bench/run/probe-publish/doc: Not authorized",
    }
    assert said[version] in problem


@pytest.mark.parametrize("user", ["viewer", "rig", "operator"])
async def test_another_role_in_the_recorder_s_place_is_told(
    running, user, store_path, outbox_path, problem_of
):
    address = running.address(user)
    with Link(outbox_path=outbox_path, rig="bench", mqtt=address, store_path=store_path) as link:
        problem = await problem_of(link, f"user {user!r}")
    assert f"user {user!r} may not publish labctl/bench/run/+/ack" in problem


def own_list(folder: Path, block: str) -> str:
    """Return the access list that commands of README make."""
    shutil.copytree(DEPLOY, folder / "deploy" / "mosquitto")
    subprocess.run(["sh", "-e", "-c", block], cwd=folder, check=True)
    return (folder / "acl").read_text()


async def test_a_rig_of_its_own_name_may_not_speak_for_another(site, points, tmp_path, problem_of):
    other = copied(site, tmp_path / "site")
    own = own_list(tmp_path, blocks("sh")[1]).replace("user bench-2", "user rig")
    assert own.count("labctl/bench-2/") == 12
    (other.folder / "acl").write_text(own)
    with other.broker():
        async with connected(other.address("rig")) as connection:
            await connection.subscribe("labctl/+/run/+/doc")
            for rig in ("bench-3", "bench-2"):
                await connection.publish(f"labctl/{rig}/run/probe-publish/doc", b"x")
            [message] = await connection.receive(10)
            assert message.topic == "labctl/bench-2/run/probe-publish/doc"
        with Link(
            outbox_path=tmp_path / "o.sqlite", rig="bench-3", mqtt=other.address("rig")
        ) as link:
            assert "labctl/bench-3/run/+/doc" in await problem_of(link, "may not")


@pytest.mark.parametrize(
    ("forbidden", "records", "said"),
    [
        ("topic read labctl/+/run/+/resend", False, "may not read labctl/bench/run/+/resend"),
        ("topic write labctl/+/run/+/resend", True, "may not publish labctl/bench/run/+/resend"),
    ],
)
async def test_who_cannot_ask_or_be_asked_for_a_resend_is_told(
    site, tmp_path, outbox_path, store_path, problem_of, forbidden, records, said
):
    other = copied(site, tmp_path / "site")
    lists = (other.folder / "acl").read_text()
    assert lists.count(forbidden) == 1
    (other.folder / "acl").write_text(lists.replace(forbidden, ""))
    user = other.address("recorder" if records else "rig")
    with (
        other.broker(),
        Link(
            outbox_path=outbox_path,
            rig="bench",
            mqtt=user,
            store_path=store_path if records else None,
        ) as link,
    ):
        assert said in await problem_of(link, "resend")


async def test_a_rig_that_records_its_own_runs_needs_one_user_with_both_roles(
    site, points, tmp_path, store_path
):
    other = copied(site, tmp_path / "site")
    own = own_list(tmp_path, blocks("sh")[2]).replace("user bench-3", "user rig")
    (other.folder / "acl").write_text(own)
    outbox, rig = tmp_path / "o.sqlite", other.address("rig")
    with (
        other.broker(),
        Link(outbox_path=outbox, rig="bench", mqtt=rig, store_path=store_path) as link,
    ):
        await link.put(points(1)[0])
        assert await link.drain(20) == 0
