"""What the fleet remembers of what it heard."""

from cortex.config.gateway import NeuronRef
from cortex.gateway.fleet.state import Fleet
from cortex.net.address import Address
from cortex.wire.fleet import Health, ModelEntry

AT = Address("beast", 1)


def fleet():
    return Fleet([NeuronRef(name="beast", endpoint="http://beast:1")], unhealthy_after=3)


def heard(fleet, *entries, **health):
    models = [ModelEntry.model_validate(entry) for entry in entries]
    addresses = {entry.id: AT for entry in models if entry.status == "loaded"}
    return fleet.heard(
        "beast", models=models, addresses=addresses, health=Health.model_validate(health), discovery=None
    )


def test_three_misses_in_a_row_make_a_neuron_unhealthy():
    """One or two hiccups keep it, a success starts the count again, and what it had stays known."""
    it = fleet()
    assert not it.view("beast").healthy
    heard(it, {"id": "org/m"})
    assert [it.missed("beast", "refused").healthy for _ in range(2)] == [True, True]
    heard(it, {"id": "org/m"})
    assert [it.missed("beast", "refused").healthy for _ in range(3)] == [True, True, False]
    assert "org/m" in it.view("beast").models
    assert it.snapshot.servable == {}
    assert heard(it, {"id": "org/m"}).healthy


def test_a_model_that_is_not_reported_any_more_is_gone():
    """Each poll replaces the last one's models."""
    it = fleet()
    heard(it, {"id": "org/a"}, {"id": "org/b", "status": "unloaded"})
    assert set(heard(it, {"id": "org/b"}).models) == {"org/b"}
    assert set(it.snapshot.servable) == {"org/b"}


def test_our_own_requests_are_not_counted_twice():
    """What a neuron reports includes what we sent; our count goes on between polls and ends with the request."""
    it = fleet()
    it.enter("beast", "org/m")
    heard(it, {"id": "org/m"}, models=[{"id": "org/m", "in_flight": 3, "queue_depth": 2}])
    assert it.snapshot.by_name["beast"].others == {"org/m": 4}
    assert it.in_flight == {("beast", "org/m"): 1}
    it.leave("beast", "org/m")
    assert it.in_flight == {}


def test_a_draining_neuron_takes_no_new_requests():
    """It is healthy, and not used."""
    it = fleet()
    assert heard(it, {"id": "org/m"}, draining=True).healthy
    assert it.snapshot.servable == {}


def test_a_model_on_its_way_makes_the_view_move():
    """Moving views are polled again soon."""
    it = fleet()
    moving = {
        status: heard(it, {"id": "org/m", "status": status}).moving
        for status in (
            "loaded",
            "unloaded",
            "failed",
            "word-of-tomorrow",
            "fetching",
            "loading",
            "draining",
            "recovering",
        )
    }
    assert [status for status, moves in moving.items() if moves] == ["fetching", "loading", "draining", "recovering"]
