"""What Prometheus reads from a gateway."""

import asyncio

from helpers.fake_neuron import STREAM_EVENTS, FakeNeuron, answer, cut_after, hold_at, reset
from helpers.gateways import eventually, gateway
from prometheus_client.parser import text_string_to_metric_families

SERIES = '{model="org/m",node="beast"}'


def test_counters_begin_with_the_first_routed_request():
    """Nothing before, requests and duration after, and no error for what went well or was the caller's mistake."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            assert await client.metric("cortex_requests_total") is None
            await client.chat("nobody/has-it")
            assert await client.metric("cortex_requests_total") is None
            await client.chat()
            beast.chat = answer(400, b"{}")
            await client.chat()
            assert await client.metric("cortex_requests_total" + SERIES) == 2
            assert await client.metric("cortex_request_duration_seconds_count" + SERIES) == 2
            assert await client.metric("cortex_prompt_tokens_total" + SERIES) == 10
            assert await client.metric("cortex_completion_tokens_total" + SERIES) == 5
            assert await client.metric("cortex_request_errors_total") is None

    asyncio.run(scenario())


def test_a_stream_is_measured():
    """First token, speed, prompt, completion and cached tokens, with the buckets that dashboards know."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded"}) as beast,
            gateway([beast], {"aliases": {"small": "org/m"}}) as client,
        ):
            await client.stream_text("small")
            assert await client.metric("cortex_time_to_first_token_seconds_count" + SERIES) == 1
            assert await client.metric("cortex_tokens_per_second_count" + SERIES) == 1
            assert await client.metric("cortex_prompt_tokens_total" + SERIES) == 7
            assert await client.metric("cortex_completion_tokens_total" + SERIES) == 3
            assert await client.metric("cortex_cached_prompt_tokens_total" + SERIES) == 2
            text = (await client.get(client.metrics_url)).text
            families = {family.name: family for family in text_string_to_metric_families(text)}
            bounds = [
                sample.labels["le"]
                for sample in families["cortex_time_to_first_token_seconds"].samples
                if sample.name.endswith("_bucket")
            ]
            assert bounds == [
                "0.05",
                "0.1",
                "0.25",
                "0.5",
                "1.0",
                "2.0",
                "5.0",
                "10.0",
                "20.0",
                "30.0",
                "60.0",
                "120.0",
                "+Inf",
            ]
            assert families["cortex_request_duration_seconds"].type == "histogram"
            assert "quantile=" not in text

    asyncio.run(scenario())


def test_a_client_that_leaves_early_is_accounted():
    """What it was sent is counted, by events where the usage had not come."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            beast.step = hold_at(3)
            async with client.stream(
                "POST", "/v1/chat/completions", json={"model": "org/m", "stream": True}
            ) as response:
                received = b""
                async for piece in response.aiter_raw():
                    received += piece
                    if b'"is"' in received:
                        break

            async def accounted():
                return await client.metric("cortex_request_duration_seconds_count" + SERIES)

            assert await eventually(accounted) == 1
            assert await client.metric("cortex_completion_tokens_total" + SERIES) == 2

    asyncio.run(scenario())


def test_failures_of_neurons_are_errors():
    """A lost connection, a broken stream, a 500, and a stream that the neuron itself ends with an error count once each."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast, gateway([beast]) as client:
            for number, failure in enumerate((reset, cut_after(b"data: {}\n\n"), answer(500, b"{}")), start=1):
                beast.chat = failure
                await client.chat(stream=True)
                assert await client.metric("cortex_request_errors_total" + SERIES) == number
            beast.chat = None
            beast.events = (
                *STREAM_EVENTS[:2],
                b'data: {"error":{"message":"the engine died","code":"engine_failed"}}\n\n',
            )
            assert (await client.chat(stream=True)).content == b"".join(beast.events)
            assert await client.metric("cortex_request_errors_total" + SERIES) == 4

    asyncio.run(scenario())


def test_gauges_follow_the_polls_and_vanish_with_their_model():
    """In flight, queue, ceilings when they are known, rejections, devices; no series outlives what it tells of."""

    async def scenario():
        async with FakeNeuron("beast", {"org/m": "loaded"}) as beast:
            figures = {"id": "org/m", "in_flight": 3, "queue_depth": 2, "max_in_flight": 4, "rejected_queue_full": 5}
            beast.health |= {
                "models": [figures, figures],
                "devices": [{"index": 0, "vram_used_mb": 1000, "temp_c": None}],
            }
            async with gateway([beast], poll_interval_secs=0.05) as client:
                assert await client.metric('cortex_model_in_flight{model="org/m",node="beast"}') == 3
                assert await client.metric('cortex_model_queue_depth{model="org/m",node="beast"}') == 2
                assert await client.metric('cortex_model_max_in_flight{model="org/m",node="beast"}') == 4
                assert await client.metric("cortex_model_max_queue_depth{") is None
                assert (
                    await client.metric('cortex_model_rejections_total{model="org/m",node="beast",reason="queue_full"}')
                    == 5
                )
                assert await client.metric('cortex_device_vram_used_mb{device="0",node="beast"}') == 1000
                assert await client.metric("cortex_device_temp_c{") is None
                assert await client.metric('cortex_node_healthy{node="beast"}') == 1
                text = (await client.get(client.metrics_url)).text
                assert text.count("cortex_model_in_flight{") == 1
                beast.health["models"] = []

                async def gone():
                    return await client.metric("cortex_model_in_flight{") is None

                await eventually(gone)

    asyncio.run(scenario())


def test_every_gateway_counts_for_itself():
    """Two gateways in one process share no registry."""

    async def scenario():
        async with (
            FakeNeuron("beast", {"org/m": "loaded"}) as beast,
            gateway([beast]) as one,
            gateway([beast]) as other,
        ):
            await one.chat()
            assert await one.metric("cortex_requests_total" + SERIES) == 1
            assert await other.metric("cortex_requests_total" + SERIES) is None

    asyncio.run(scenario())
