"""Images by http(s) URL, over HTTP, from a real host on loopback that the operator has named."""

import asyncio
import socket
from typing import Any

import pytest
from helpers.certificates import certificate
from helpers.fake_neuron import FakeNeuron
from helpers.gateways import gateway
from helpers.image_host import PNG_URL, image_host

from cortex.net.tls import showing, trusting_system

MODELS = {"org/m": "loaded"}
LOOPBACK = {"allow_urls": True, "private_hosts": ["127.0.0.1", "localhost"]}


def chat(*urls: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {
        "model": "org/m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, *parts]}],
    } | more


def message(url: str) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "url", "url": url}}
    return {"model": "org/m", "max_tokens": 8, "messages": [{"role": "user", "content": [image]}]}


def response(url: str) -> dict[str, Any]:
    image = {"type": "input_image", "image_url": url, "detail": "auto"}
    return {"model": "org/m", "input": [{"role": "user", "content": [image]}]}


DIALECTS = {"/v1/chat/completions": chat, "/v1/messages": message, "/v1/responses": response}


def sent_urls(body: Any) -> list[str]:
    content = body["messages"][-1]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


async def refused(images: dict[str, Any], *urls: str) -> str:
    """The error of a chat with these images; no neuron hears of it."""
    async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=images) as client:
        answer = await client.post("/v1/chat/completions", json=chat(*urls))
        assert beast.sent == []
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_image_url", "messages")
        said: str = error["message"]
        return said


@pytest.mark.parametrize("path", DIALECTS)
def test_an_engine_is_shown_the_image_itself(path: str):
    """In every dialect the model's host gets data and nothing to fetch; what else the request says stays."""

    async def scenario():
        with image_host() as host:
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=LOOPBACK) as client:
                answer = await client.post(path, json=DIALECTS[path](host.url("/image.png", "localhost")))
                assert answer.status_code == 200, answer.text
                assert sent_urls(beast.sent[0].json) == [PNG_URL]
                assert host.asked == [("/image.png", f"localhost:{host.port}")]

    asyncio.run(scenario())


def test_counting_sees_the_same_image():
    """Tokens are counted of what would be sent."""

    async def scenario():
        with image_host() as host:
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=LOOPBACK) as client:
                for path, body in (
                    ("/v1/messages/count_tokens", message(host.url("/image.png"))),
                    ("/v1/chat/completions/input_tokens", chat(host.url("/image.png"))),
                ):
                    assert (await client.post(path, json=body)).status_code == 200
                assert [sent_urls(body) for body in beast.counted] == [[PNG_URL]] * 2

    asyncio.run(scenario())


def test_an_image_that_is_named_twice_is_fetched_once():
    """Data URLs beside it stay as they are, and a request without URLs passes byte by byte."""

    async def scenario():
        with image_host() as host:
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=LOOPBACK) as client:
                url = host.url("/image.png")
                await client.post("/v1/chat/completions", json=chat(url, "data:image/png;base64,AA==", url))
                assert sent_urls(beast.sent[0].json) == [PNG_URL, "data:image/png;base64,AA==", PNG_URL]
                assert len(host.asked) == 1
                raw = b'{"model": "org/m",  "messages":[ {"role":"user","content":"\\"image_url\\" \\"http"} ]}'
                await client.post("/v1/chat/completions", content=raw)
                assert beast.sent[1].body == raw

    asyncio.run(scenario())


@pytest.mark.parametrize("path", DIALECTS)
def test_without_the_operators_leave_nothing_is_fetched(path: str):
    """A clear 400 that names the setting, in every dialect, before any model is loaded for it."""

    async def scenario():
        with image_host() as host:
            async with FakeNeuron("beast", {"org/m": "unloaded"}) as beast, gateway([beast]) as client:
                answer = await client.post(path, json=DIALECTS[path](host.url("/image.png")))
                assert answer.status_code == 400
                assert "[images] allow_urls = true" in answer.json()["error"]["message"]
                assert (beast.sent, beast.loads, host.asked) == ([], [], [])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_a_private_address_is_not_asked(name: str):
    """However it is written; the host on it hears of nothing."""

    async def scenario():
        with image_host() as host:
            assert "public address" in await refused({"allow_urls": True}, host.url("/image.png", name))
            assert host.asked == []

    asyncio.run(scenario())


def test_a_redirect_is_checked_like_a_url():
    """To a host that may be asked it is followed, to any other it is not, and not for ever."""

    async def scenario():
        with image_host() as host, image_host() as other:
            named = {"allow_urls": True, "private_hosts": ["127.0.0.1"]}
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=named) as client:
                for target in (other.url("/image.png"), f"//127.0.0.1:{other.port}/image.png"):
                    answer = await client.post("/v1/chat/completions", json=chat(host.url(f"/to?{target}")))
                    assert answer.status_code == 200, answer.text
                assert sent_urls(beast.sent[1].json) == [PNG_URL]
            asked = len(other.asked)
            for target, says in (
                (other.url("/image.png", "localhost"), "public address"),
                ("file:///etc/passwd", "no http or https"),
                ("data:image/png;base64,AA==", "could not be fetched"),
                ("http://[", "could not be fetched"),
                ("//[::1/image.png", "could not be fetched"),
            ):
                assert says in await refused(named, host.url(f"/to?{target}"))
            assert len(other.asked) == asked
            assert "redirected more than 3 times" in await refused(named, host.url("/loop"))

    asyncio.run(scenario())


def test_a_body_that_nests_too_deeply_to_be_written_with_its_images_is_refused():
    """It is passed on as it came otherwise; with an image in it it would have to be written anew."""
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]

    async def scenario():
        with image_host() as host:
            named = {"allow_urls": True, "private_hosts": ["127.0.0.1"]}
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=named) as client:
                body = chat(host.url("/image.png")) | {"metadata": deep}
                answer = await client.post("/v1/chat/completions", json=body)
                assert answer.status_code == 400
                assert "nested too deeply" in answer.json()["error"]["message"]

    asyncio.run(scenario())


def test_a_name_is_looked_up_once_and_what_was_checked_is_asked(monkeypatch):
    """A name that answers otherwise the second time (DNS rebinding) changes nothing: there is no second time."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host, *more, **fields):
        if host != "images.test":
            return real(host, *more, **fields)
        looked_up.append(host)
        return real("127.0.0.1" if len(looked_up) == 1 else "127.0.0.9", *more, **fields)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def scenario():
        with image_host() as host:
            named = {"allow_urls": True, "private_hosts": ["images.test"]}
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=named) as client:
                answer = await client.post("/v1/chat/completions", json=chat(host.url("/image.png", "images.test")))
                assert answer.status_code == 200, answer.text
                assert host.asked == [("/image.png", f"images.test:{host.port}")]
            assert looked_up == ["images.test"]
            assert "public address" in await refused({"allow_urls": True}, host.url("/image.png", "images.test"))
            assert len(host.asked) == 1

    asyncio.run(scenario())


def test_https_is_trusted_for_its_name(tmp_path, monkeypatch):
    """The certificate must be the name's, whatever address that has; and somebody the system trusts must vouch for it."""
    made = certificate(tmp_path, "images", "DNS:localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    trusting_system.cache_clear()

    async def scenario():
        with image_host(showing(made.certificate, made.key)) as host:
            async with FakeNeuron("beast", MODELS) as beast, gateway([beast], images=LOOPBACK) as client:
                url = host.url("/image.png", "localhost").replace("http:", "https:")
                answer = await client.post("/v1/chat/completions", json=chat(url))
                assert answer.status_code == 200, answer.text
                assert sent_urls(beast.sent[0].json) == [PNG_URL]
            assert "could not be fetched" in await refused(LOOPBACK, url.replace("localhost", "127.0.0.1"))
            monkeypatch.delenv("SSL_CERT_FILE")
            trusting_system.cache_clear()
            assert "could not be fetched" in await refused(LOOPBACK, url)

    try:
        asyncio.run(scenario())
    finally:
        trusting_system.cache_clear()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing", "its host answered 404"),
        ("/text", "is none of image/"),
        ("/flood", "larger than 1 MiB"),
        ("/liar", "could not be fetched"),
        ("/stall", "within 0.2 s"),
    ],
)
def test_what_comes_is_bounded(path: str, says: str):
    """In kind, size and time; what is not whole is not shown."""

    async def scenario():
        with image_host() as host:
            assert says in await refused(
                {**LOOPBACK, "max_mb": 1, "timeout_secs": 0.2 if path == "/stall" else 10}, host.url(path)
            )

    asyncio.run(scenario())


def test_a_host_that_is_not_there_is_named():
    """Nobody listens there; and more images than are fetched."""

    async def scenario():
        with image_host() as host:
            gone = host.url("/image.png")
        assert "could not be fetched" in await refused(LOOPBACK, gone)
        many = [f"http://127.0.0.1/{number}.png" for number in range(3)]
        assert "one too many: 2" in await refused({**LOOPBACK, "max_count": 2}, *many)

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_that_is_kept_fetches_its_images_once(tmp_path, stream: bool):  # noqa: FBT001
    """The next turns are shown what the first one was, also when the URL leads nowhere any more; what is listed is the URL."""

    async def scenario():
        responses = {"store": True, "database": str(tmp_path / "responses.sqlite")}
        with image_host() as host:
            async with (
                FakeNeuron("beast", MODELS) as beast,
                gateway([beast], images=LOOPBACK, responses=responses) as client,
            ):
                asked, url = response(host.url("/image.png")), host.url("/image.png")
                ids: list[str] = []
                for _ in range(3):
                    following = {"previous_response_id": ids[-1]} if ids else {}
                    answer = await client.post("/v1/responses", json=asked | following | {"stream": stream})
                    assert answer.status_code == 200, answer.text
                    ids.append("resp_" + answer.text.partition('"id":"resp_')[2].partition('"')[0])
                    shown = [part for message in beast.sent[-1].json["messages"] for part in message["content"]]
                    images = [part["image_url"]["url"] for part in shown if isinstance(part, dict)]
                    assert images == [PNG_URL] * len(ids)
                assert len(host.asked) == 1
                items = (await client.get(f"/v1/responses/{ids[-1]}/input_items")).json()["data"]
                assert items[0]["content"][0]["image_url"] == url
                await client.post("/v1/responses", json=asked)  # a conversation of its own
                assert len(host.asked) == 2

    asyncio.run(scenario())
