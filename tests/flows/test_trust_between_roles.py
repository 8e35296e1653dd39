"""Gateway and neuron know one another: by a shared token, by certificates, and without either showing a secret."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.certificates import Certificate, certificate
from helpers.fake_neuron import CHAT_ANSWER, FakeNeuron, answer
from helpers.gateways import eventually, gateway
from helpers.live import SCRIPTED, SCRIPTED_MODEL, neuron_config

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.gateway import app as gateway_app
from cortex.neuron import app as neuron_app

TOKEN = "t0ken-of-the-fleet"
BEARER = {"authorization": f"Bearer {TOKEN}"}
GUARDED = [
    ("GET", "/discovery"),
    ("GET", "/models"),
    ("GET", "/models/x/endpoint"),
    ("GET", "/jobs"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("POST", "/models/load"),
    ("POST", "/models/unload"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
]


@contextlib.asynccontextmanager
async def neuron(folder: Path, trusted: Certificate | None = None, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A real neuron, and a client that shows nothing by itself."""
    verify = ssl.create_default_context(cafile=trusted.certificate if trusted else None)
    scheme = "https" if "tls_cert" in more else "http"
    async with (
        neuron_app.running(neuron_config(folder, **more)) as handle,
        httpx.AsyncClient(base_url=f"{scheme}://{handle.listen}", verify=verify, trust_env=False, timeout=20) as http,
    ):
        yield http


def ref(http: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    return {"name": "beast", "endpoint": str(http.base_url).rstrip("/"), **more}


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])
def test_a_neuron_with_a_token_refuses_whoever_does_not_show_it(tmp_path, caplog, shown):
    """401 on every path, with what is wanted in the header; `/health` only says that it is up."""
    caplog.set_level(logging.DEBUG)

    async def scenario():
        async with neuron(tmp_path, token=TOKEN) as http:
            for method, path in GUARDED:
                refused = await http.request(method, path, headers=shown, json={} if method == "POST" else None)
                assert (refused.status_code, refused.headers.get("www-authenticate")) == (401, "Bearer"), path
                assert refused.json()["error"]["code"] == "invalid_api_key"
                assert TOKEN not in refused.text
            assert (await http.get("/health", headers=shown)).json() == {"status": "ok"}
            assert "uptime_secs" in (await http.get("/health", headers=BEARER)).json()
            assert (await http.get("/models", headers=BEARER)).status_code == 200

    asyncio.run(scenario())
    assert TOKEN not in caplog.text


@pytest.mark.model
def test_a_gateway_with_the_token_serves_a_guarded_neuron_over_tls(tmp_path, models_dir):
    """Control and data plane show the token over https that is trusted by one certificate; the gateway's own listener is https, too."""
    of_neuron, of_gateway = certificate(tmp_path, "neuron"), certificate(tmp_path, "gateway")

    async def scenario():
        async with neuron(models_dir, of_neuron, token=TOKEN, **of_neuron.listener) as direct:
            config = GatewayConfig.model_validate(
                {
                    "gateway": {
                        "listen": "127.0.0.1:0",
                        "metrics_listen": "127.0.0.1:0",
                        "neuron_token": TOKEN,
                        "neuron_tls_ca": str(of_neuron.certificate),
                        **of_gateway.listener,
                    },
                    "neurons": [ref(direct)],
                }
            )
            profile = {"id": SCRIPTED} | {k: v for k, v in SCRIPTED_MODEL.items() if k != "model_id"}
            trusted = ssl.create_default_context(cafile=of_gateway.certificate)
            async with (
                gateway_app.running(config, Catalogue.model_validate({"models": [profile]})) as handle,
                httpx.AsyncClient(base_url=f"https://{handle.listen}", verify=trusted, timeout=60) as client,
            ):
                body = {"model": SCRIPTED, "messages": [{"role": "user", "content": "Hello"}]}
                for stream in (False, True):
                    told = await client.post("/v1/chat/completions", json={**body, "max_tokens": 8, "stream": stream})
                    assert (told.status_code, told.headers["x-cortex-node"]) == (200, "beast"), told.text
                    assert "scripted" in told.text
                told = await client.get(f"https://{handle.metrics_listen}/metrics")
                assert "cortex_requests_total" in told.text
                for listener in (handle.listen, handle.metrics_listen):
                    with pytest.raises(httpx.RemoteProtocolError):
                        await client.get(f"http://{listener}/health")
            with pytest.raises(httpx.RemoteProtocolError):
                await client_in_the_clear(direct)

    asyncio.run(scenario())


def test_metrics_may_stay_in_the_clear(tmp_path):
    """For a Prometheus that trusts no certificate of ours, when it is asked for in so many words."""
    mine = certificate(tmp_path, "gateway")

    async def scenario():
        listeners = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "metrics_tls": False, **mine.listener}
        config = GatewayConfig.model_validate({"gateway": listeners})
        async with gateway_app.running(config, Catalogue()) as handle, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://{handle.metrics_listen}/metrics")).status_code == 200

    asyncio.run(scenario())


async def client_in_the_clear(direct: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(str(direct.base_url).replace("https", "http"))


@pytest.mark.parametrize("wrong", ["no token", "another token", "another certificate", "in the clear"])
def test_a_neuron_that_is_not_trusted_or_does_not_trust_is_down(tmp_path, caplog, wrong):
    """The log says which of the two it is, without the token; nothing is sent in the clear to who is known by https."""
    caplog.set_level(logging.DEBUG)
    mine, other = certificate(tmp_path, "mine"), certificate(tmp_path, "other")

    async def scenario():
        async with neuron(tmp_path, mine, token=TOKEN, **mine.listener) as direct:
            wrongs: dict[str, dict[str, Any]] = {
                "no token": {"token": None},
                "another token": {"token": "another-token"},
                "another certificate": {"tls_ca": str(other.certificate)},
                "in the clear": {"endpoint": ref(direct)["endpoint"].replace("https", "http")},
            }
            entry = ref(direct, token=TOKEN, tls_ca=str(mine.certificate)) | wrongs[wrong]
            async with gateway([entry], poll_interval_secs=0.05) as client:

                async def missed():
                    return (await client.node("beast"))["misses"]

                await eventually(missed)
                assert (await client.chat()).status_code == 503

    asyncio.run(scenario())
    assert TOKEN not in caplog.text
    assert "another-token" not in caplog.text
    assert ("401" if wrong.endswith("token") else "neuron 'beast'") in caplog.text


def test_the_clients_key_stays_and_the_neurons_token_goes_along():
    """A client's Authorization is the gateway's business; the neuron sees the shared token instead."""

    async def scenario():
        async with FakeNeuron("a", {"org/m": "loaded"}) as only, gateway([only], neuron_token=TOKEN) as client:
            keys = {"authorization": "Bearer sk-client", "x-api-key": "sk-client"}
            told = await client.post("/v1/chat/completions", json={"model": "org/m"}, headers=keys)
            assert told.content == CHAT_ANSWER
            (sent,) = only.sent
            assert sent.headers["authorization"] == f"Bearer {TOKEN}"
            assert "sk-client" not in str(sent.headers)
            assert TOKEN not in str(told.headers)

    asyncio.run(scenario())


def test_a_token_goes_to_no_other_host():
    """A neuron that reports another host for its model gets the request there, without the secret of the endpoint."""

    async def scenario():
        async with FakeNeuron("other") as other, FakeNeuron("a", {"org/m": "loaded"}) as liar:
            other.models = liar.models
            port = other.endpoint.rpartition(":")[2]
            liar.inference_url = f"http://2130706433:{port}"  # 127.0.0.1 to the resolver, a foreign name to us
            async with gateway([liar], neuron_token=TOKEN) as client:
                assert (await client.chat()).status_code == 200
            (sent,) = other.sent
            assert "authorization" not in sent.headers

    asyncio.run(scenario())


@pytest.mark.parametrize("others", [0, 1])
def test_a_neuron_that_wants_another_token_is_no_fault_of_the_client(others):
    """Its 401 is tried elsewhere; with nowhere else to go it is a 502, for the client's own key was not asked about."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            strict = await stack.enter_async_context(FakeNeuron("a", {"org/m": "loaded"}))
            strict.chat = answer(401, b'{"error":{"message":"wants its token","code":"invalid_api_key"}}')
            rest = [
                await stack.enter_async_context(FakeNeuron(f"b{number}", {"org/m": "loaded"}))
                for number in range(others)
            ]
            client = await stack.enter_async_context(gateway([strict, *rest]))
            told = await client.chat()
            assert told.status_code == (200 if others else 502)
            assert len(strict.sent) == 1

    asyncio.run(scenario())
