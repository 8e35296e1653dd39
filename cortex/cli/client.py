"""HTTP to a gateway or a neuron, with a deadline for the whole exchange; its failures as sentences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from cortex.cli.outcome import Exit, Failure
from cortex.net.tls import trusting_system

MAX_PORT = 65535
ANSWER_S = 10.0  # for control calls, which never wait on inference


class Client:
    """One server. `within_s` bounds an exchange from connecting to the last byte, which httpx's own time-outs do not."""

    def __init__(self, base: str, http: httpx.AsyncClient) -> None:
        self.base = base
        self._http = http

    async def exchange(self, method: str, path: str, body: Any = None, *, within_s: float = ANSWER_S) -> httpx.Response:
        """Any answer, whatever its status. Raises Failure when there is none."""
        try:
            url = _checked(self.base + path)
            async with asyncio.timeout(within_s):
                return await self._http.request(method, url, json=body)
        except TimeoutError as error:
            raise Failure(
                f"{self.base} did not answer {method} {path} within {within_s:g} s", Exit.unreachable
            ) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Failure(f"'{self.base}' is no URL, for example http://127.0.0.1:31313", Exit.usage) from error
        except httpx.HTTPError as error:
            raise Failure(f"cannot reach {self.base}: {_plainly(error)}", Exit.unreachable) from error

    async def ask(
        self, method: str, path: str, body: Any = None, *, has: Collection[str] = (), within_s: float = ANSWER_S
    ) -> Any:
        """The JSON of a success, an object with the fields `has` if these are named. Raises Failure with the server's own words otherwise."""
        answer = await self.exchange(method, path, body, within_s=within_s)
        if answer.is_error:
            raise Failure(error_message(answer))
        try:
            told = orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise Failure(f"{self.base}{path} answered something that is not JSON; is it a cortex?") from error
        if missing := [field for field in has if not isinstance(told, dict) or field not in told]:
            raise Failure(f"{self.base}{path} answered JSON without {' and '.join(missing)}; is it a cortex?")
        return told


@asynccontextmanager
async def connected(base: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """`headers` go with every request; None: the API key in CORTEX_API_KEY, which a gateway may want. An https server is trusted as the system does, and as SSL_CERT_FILE says."""
    headers = bearer_from("CORTEX_API_KEY") if headers is None else headers
    # A fleet is reached directly: proxy settings of the environment are for the internet.
    async with httpx.AsyncClient(timeout=None, trust_env=False, verify=trusting_system(), headers=headers) as http:  # noqa: S113  every exchange has a deadline of its own
        yield Client(base.rstrip("/"), http)


def _checked(address: str) -> httpx.URL:
    """As httpx reads it, which takes any number for a port. Raises httpx.InvalidURL."""
    url = httpx.URL(address)
    if url.port is not None and not 0 < url.port <= MAX_PORT:
        raise httpx.InvalidURL(f"{url.port} is no port")
    return url


def bearer_from(variable: str) -> dict[str, str]:
    """The header for a secret in the environment, if it is there. Raises Failure for what no header holds, and does not tell it."""
    secret = os.environ.get(variable)
    if secret and not (secret.isascii() and secret.isprintable()):
        raise Failure(f"{variable} is no key: it has a line break, or a letter that is not ASCII", Exit.usage)
    return {"authorization": f"Bearer {secret}"} if secret else {}


def error_message(answer: httpx.Response) -> str:
    """What a server says went wrong: OpenAI's error object, or the first generation's flat string."""
    try:
        error = orjson.loads(answer.content)["error"]
        message = error if isinstance(error, str) else error["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{answer.url} answered HTTP {answer.status_code}"
    return f"{message} (HTTP {answer.status_code})"


def _plainly(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "nothing answers there; is it running, and is the address right?"
    return str(error) or type(error).__name__
