"""Who asks, between gateway and neuron."""

import pytest

from cortex.wire.principal import MAX_WEIGHT, Caller, caller_of


@pytest.mark.parametrize("caller", [Caller("acme", "ci"), Caller("acme", "ci", 7), Caller("a", "a", MAX_WEIGHT)])
def test_a_neuron_reads_what_its_gateway_wrote(caller):
    """There and back."""
    assert caller_of(dict(caller.headers)) == caller


@pytest.mark.parametrize(
    ("weight", "read"), [("", 1), ("0", 1), ("-3", 1), ("2.5", 1), ("²", 1), ("9999", MAX_WEIGHT), ("9" * 5000, 1)]
)
def test_a_weight_that_makes_no_sense_is_bounded(weight, read):
    """Whatever the header holds, a caller has a share between one and the most."""
    assert caller_of({"x-helexa-account-id": "acme", "x-cortex-weight": weight}) == Caller("acme", "acme", read)


def test_without_an_account_nobody_asks():
    """A key alone names nobody."""
    assert caller_of({"x-helexa-key-id": "ci", "x-cortex-weight": "9"}) is None
    assert caller_of({"x-helexa-account-id": ""}) is None
