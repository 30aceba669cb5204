from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from labctl.errors import StreamError
from labctl.stream.broker import EmbeddedBroker
from labctl.stream.mqtt import BrokerLostError, connected


async def test_who_knows_the_password_gets_messages_across(broker):
    async with connected(broker) as listener, connected(broker) as speaker:
        await listener.subscribe("labctl/rig/run/+/doc")
        await speaker.publish("labctl/rig/run/r1/doc", b"{}")
        [message] = await listener.receive(10)
    assert (message.topic, message.payload) == ("labctl/rig/run/r1/doc", b"{}")


@pytest.mark.parametrize("wrong", [{"password": "guess"}, {"username": None, "password": None}])
async def test_who_does_not_is_refused(broker, wrong):
    with pytest.raises(BrokerLostError, match=r"[Nn]ot authori[sz]ed"):
        async with connected(replace(broker, **wrong)):
            pass


def test_it_listens_on_this_machine_only(broker):
    assert broker.host == "127.0.0.1"


def test_every_start_has_a_password_of_its_own():
    first, second = EmbeddedBroker(), EmbeddedBroker()
    passwords = {first.start().password, second.start().password}
    first.stop()
    second.stop()
    assert len(passwords) == 2


def test_a_port_that_is_taken_is_an_error(broker):
    with pytest.raises(StreamError, match=str(broker.port)):
        EmbeddedBroker(broker.port).start()


def test_stopping_leaves_no_thread():
    broker = EmbeddedBroker()
    broker.start()
    broker.stop()
    broker.stop()
    assert "labctl-broker" not in [thread.name for thread in threading.enumerate()]
