"""The vendors' own clients, pointed at a server of this machine, with or without layers in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
from aiohttp import web
from aiohttp.test_utils import TestServer
from google import genai
from google.genai import types

from lamella.integrations.httpx2 import LamellaTransport

KEYS = {'openai': 'sk-openai-secret', 'anthropic': 'sk-ant-secret', 'gemini': 'AIza-gemini-secret'}


@dataclass
class Clients:
    """The three clients of one kind, sync or async, with their own retries off, and the HTTP client below them."""

    url: str
    gpt: Any
    claude: Any
    gemini: Any
    http: Any


@asynccontextmanager
async def clients(url: str, transport: LamellaTransport | None = None, **options: Any) -> AsyncIterator[Clients]:
    async with httpx2.AsyncClient(transport=transport, timeout=10, **options) as http:
        common: dict[str, Any] = {'max_retries': 0, 'http_client': http}
        yield Clients(
            url,
            openai.AsyncOpenAI(base_url=f'{url}/v1', api_key=KEYS['openai'], **common),
            anthropic.AsyncAnthropic(base_url=url, api_key=KEYS['anthropic'], **common),
            genai.Client(
                api_key=KEYS['gemini'], http_options=types.HttpOptions(base_url=url, httpx_async_client=http)
            ).aio,
            http,
        )


@contextmanager
def sync_clients(url: str, transport: LamellaTransport | None = None, **options: Any) -> Iterator[Clients]:
    with httpx2.Client(transport=transport, timeout=10, **options) as http:
        common: dict[str, Any] = {'max_retries': 0, 'http_client': http}
        yield Clients(
            url,
            openai.OpenAI(base_url=f'{url}/v1', api_key=KEYS['openai'], **common),
            anthropic.Anthropic(base_url=url, api_key=KEYS['anthropic'], **common),
            genai.Client(api_key=KEYS['gemini'], http_options=types.HttpOptions(base_url=url, httpx_client=http)),
            http,
        )


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """A server that gives every request to one function, on a real socket."""
    app = web.Application()
    app.router.add_route('*', '/{path:.*}', handler)
    async with TestServer(app) as server:
        yield str(server.make_url('')).rstrip('/')
