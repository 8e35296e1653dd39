"""Who may join the fleet by its own word."""

from __future__ import annotations

import pytest

from cortex.config.gateway import NeuronRef
from cortex.errors import CortexError
from cortex.gateway.fleet import joining
from cortex.gateway.fleet.joining import Joined, admit, endpoint_of
from cortex.wire.fleet import Announcement

FAR, NEAR = "10.0.0.7", "127.0.0.1"


def ref(name: str, endpoint: str = "http://10.0.0.7:13131") -> NeuronRef:
    return NeuronRef(name=name, endpoint=endpoint)


@pytest.mark.parametrize(
    ("said", "peer", "endpoint"),
    [
        ({}, FAR, "http://10.0.0.7:13131"),
        ({"port": 1, "scheme": "https"}, FAR, "https://10.0.0.7:1"),
        ({}, "fd00::7", "http://[fd00::7]:13131"),
        ({"endpoint": "http://beast:1/"}, FAR, "http://beast:1"),
        ({"endpoint": "http://10.0.0.8:1"}, FAR, "http://10.0.0.8:1"),
        ({"endpoint": "http://localhost:1"}, NEAR, "http://localhost:1"),
    ],
)
def test_a_neuron_is_where_it_says_or_where_it_is_heard_from(said, peer, endpoint):
    """Without an endpoint of its own it is the address of its connection, with its port."""
    assert endpoint_of(Announcement(name="a", **said), peer) == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:6379",
        "http://localhost:6379",
        "http://[::1]:80",
        "http://[::ffff:127.0.0.1]:80",
        "http://0.0.0.0:80",
        "http://169.254.169.254",
        "http://224.0.0.1:80",
        "http://2130706433:80",
        "http://0x7f.1:80",
        "http://10.0.0.8:0",
        "http://me:hunter2@10.0.0.8:80",
        "http://10.0.0.8/v1",
        "http://10.0.0.8 :80",
        "http://10.0.0.8\n:80",
        "http+unix:///run/x.sock",
        "file:///etc/passwd",
        "nonsense",
    ],
)
def test_an_announcer_turns_no_gateway_against_other_hosts(endpoint):
    """The gateway's own host, services of the network itself, and whatever is no base URL: 400, without a secret in it."""
    with pytest.raises(CortexError) as raised:
        endpoint_of(Announcement(name="a", endpoint=endpoint), FAR)
    assert (raised.value.status, raised.value.param) == (400, "endpoint")
    assert "hunter2" not in raised.value.message


A = {"a": ref("a")}
A_JOINED = {"a": Joined(ref("a"), until=0)}


@pytest.mark.parametrize(
    ("configured", "joined", "healthy", "announced", "outcome"),
    [
        ({}, {}, set(), ref("a"), True),
        ({}, A_JOINED, {"a"}, ref("a"), True),
        (A, {}, set(), ref("a"), False),
        (A, {}, set(), ref("other-name"), False),
        (A, {}, set(), ref("a", "http://10.0.0.8:1"), "configured here at another endpoint"),
        ({}, A_JOINED, {"a"}, ref("a", "http://10.0.0.8:1"), "another neuron has joined as 'a'"),
        ({}, A_JOINED, set(), ref("a", "http://10.0.0.8:1"), True),
        ({}, A_JOINED, {"a"}, ref("b"), "has joined as 'a'"),
    ],
    ids=["new", "again", "configured", "configured as", "name taken", "name answers", "name is dead", "twin"],
)
def test_the_configuration_wins_and_names_are_kept(configured, joined, healthy, announced, outcome):
    """Who is configured needs no joining, and nobody takes over the name of a neuron that answers."""
    if isinstance(outcome, bool):
        assert admit(announced, configured, joined, healthy) is outcome
        return
    with pytest.raises(CortexError, match=outcome) as raised:
        admit(announced, configured, joined, healthy)
    assert raised.value.status == 409


def test_there_is_an_end_to_joining():
    """However many announce themselves, what is kept of them is bounded."""
    many = {f"n{n}": Joined(ref(f"n{n}", f"http://10.0.0.7:{n + 1}"), 0) for n in range(joining.JOINED_LIMIT)}
    with pytest.raises(CortexError, match="the most that may") as raised:
        admit(ref("one-more", "http://10.0.0.9:1"), {}, many, set())
    assert raised.value.status == 503
    assert admit(ref("n0", "http://10.0.0.7:1"), {}, many, set())
