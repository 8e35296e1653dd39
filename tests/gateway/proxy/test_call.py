"""What is read of a request, and what of it goes on."""

from cortex.config.catalogue import Catalogue
from cortex.gateway.proxy.call import read_call


def read(body, headers=(), aliases=None):
    return read_call(
        "/v1/chat/completions",
        headers,
        body,
        "req_1",
        Catalogue.model_validate({"aliases": aliases or {}}),
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
