"""Pictures through the official SDKs, gateway, neuron and a real engine with a projector."""

import asyncio
import contextlib
from typing import Any, cast

import anthropic
import ollama
import openai
import pytest
from helpers.image_host import PNG_URL, image_host
from helpers.live import SCRIPTED, SCRIPTED_MODEL, running_fleet
from helpers.scripted_gguf import script_text
from helpers.scripted_projector import write_projector

pytestmark = pytest.mark.model
HELLO = script_text("hello")
BASE64 = PNG_URL.partition(",")[2]


@contextlib.asynccontextmanager
async def _fleet(models_dir, tmp_path):
    """The scripted model with eyes."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f"{SCRIPTED}.gguf").symlink_to((models_dir / f"{SCRIPTED}.gguf").resolve())
    write_projector(folder / f"mmproj-{SCRIPTED}.gguf")
    async with running_fleet(
        folder, default_models=[SCRIPTED_MODEL], images={"allow_urls": True, "private_hosts": ["127.0.0.1"]}
    ) as fleet:
        yield fleet


def _parts(url):
    return [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": url}}]


def test_a_picture_in_every_dialect(models_dir, tmp_path):
    """As data, and by URL where the operator allows it: the model reads more tokens than of the text alone, and answers."""

    async def scenario():
        with image_host() as host:
            async with (
                _fleet(models_dir, tmp_path) as fleet,
                openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="any", max_retries=0) as one,
                anthropic.AsyncAnthropic(base_url=fleet.url, api_key="any", max_retries=0) as two,
                ollama.AsyncClient(host=fleet.url) as three,
            ):
                (entry,) = (await fleet.get("/v1/models"))["data"]
                assert "vision" in entry["capabilities"]
                plain = (await fleet.chat(SCRIPTED, "hi")).json()["usage"]["prompt_tokens"]
                for url in (PNG_URL, host.url("/image.png")):
                    tokens = await _openai_reads(one, url)
                    assert tokens > plain
                    assert await _anthropic_reads(two, url) == tokens
                said = await three.chat(SCRIPTED, [{"role": "user", "content": "hi", "images": [BASE64]}])
                assert said.message.content == HELLO

    asyncio.run(scenario())


async def _openai_reads(client, url):
    """The tokens of text and picture, in both of OpenAI's APIs."""
    chat = await client.chat.completions.create(
        model=SCRIPTED, max_tokens=32, messages=[{"role": "user", "content": _parts(url)}]
    )
    assert chat.choices[0].message.content == HELLO
    content = [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    response = await client.responses.create(
        model=SCRIPTED, max_output_tokens=32, input=[{"role": "user", "content": content}]
    )
    assert response.output_text == HELLO
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    return chat.usage.prompt_tokens


async def _anthropic_reads(client, url):
    """The same, answered and only counted."""
    data = {"type": "base64", "media_type": "image/png", "data": BASE64}
    image = {"type": "image", "source": data if url == PNG_URL else {"type": "url", "url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}]
    message = await client.messages.create(model=SCRIPTED, max_tokens=32, messages=messages)
    assert message.content[0].text == HELLO
    counted = await client.messages.count_tokens(model=SCRIPTED, messages=messages)
    assert counted.input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens
    return counted.input_tokens


def test_what_is_no_picture_is_the_callers_mistake(models_dir, tmp_path):
    """400, and the model serves on."""

    async def scenario():
        async with (
            _fleet(models_dir, tmp_path) as fleet,
            openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="any", max_retries=0) as client,
        ):
            for url in ("data:image/png;base64,AAAA", "data:image/png;base64,###", "data:,", "file:///etc/passwd"):
                with pytest.raises(openai.BadRequestError):
                    await client.chat.completions.create(
                        model=SCRIPTED, max_tokens=8, messages=cast("Any", [{"role": "user", "content": _parts(url)}])
                    )
            assert (await fleet.chat(SCRIPTED, "hi")).json()["choices"][0]["message"]["content"] == HELLO

    asyncio.run(scenario())
