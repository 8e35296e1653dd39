"""What is read of a request, and what of it goes on."""

import orjson
import pytest

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.errors import CortexError
from cortex.gateway.fleet.state import Fleet
from cortex.gateway.live import Live
from cortex.gateway.names import Names
from cortex.gateway.proxy.call import WAIT_HEADER, read_call


def names(catalogue):
    """Those of a gateway without neurons."""
    return Names(Live(GatewayConfig(), catalogue), Fleet([], unhealthy_after=1))


def read(body, headers=(), aliases=None):
    return read_call(
        "/v1/chat/completions",
        headers,
        body,
        "req_1",
        names(Catalogue.model_validate({"aliases": aliases or {}})),
    )


def test_only_true_is_a_stream():
    """`stream` decides about comments while waiting, so a null or a word does not count."""
    assert [
        read(b'{"model":"m","stream":%s}' % value).stream for value in (b"true", b"false", b"null", b'"yes"', b"1")
    ] == [True, False, False, False, False]


def test_the_body_is_the_same_object_without_an_alias():
    """Nothing is copied that is only passed on."""
    body = b'{"model":"m"}'
    assert read(body).body is body
    assert read(body, aliases={"other": "x"}).body is body


def test_the_gateways_request_id_goes_along():
    """The neuron's log can be found by it; a client's own id does not pose as ours."""
    call = read(
        b'{"model":"m"}',
        [
            ("x-request-id", "spoofed"),
            ("user-agent", "sdk/1"),
            ("connection", "X-Secret"),
            ("x-secret", "1"),
            ("host", "h"),
        ],
    )
    assert sorted(call.headers) == [("user-agent", "sdk/1"), ("x-request-id", "req_1")]


def test_what_nests_deeper_than_can_be_written_again_is_the_callers_mistake():
    """A parser takes more levels than a writer: passed on as it is that is the neuron's to judge, rewritten for an alias it is 400."""
    deep = b'{"model":"m","messages":%s}' % (b"[" * 300 + b"]" * 300)
    assert read(deep).body is deep
    with pytest.raises(CortexError, match="nested too deeply") as caught:
        read(deep, aliases={"m": "x"})
    assert caught.value.status == 400


def test_an_unknown_wish_is_told_whatever_bytes_it_has():
    """Header values are any bytes, and errors are JSON."""
    with pytest.raises(CortexError, match="is none of block") as caught:
        read(b'{"model":"m"}', [(WAIT_HEADER, b"\xff".decode(errors="surrogateescape"))])
    assert caught.value.status == 400
    assert orjson.dumps(caught.value.message)
