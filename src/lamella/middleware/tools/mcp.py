"""`MCP`: the tools of an MCP server, as tools of the run."""

from __future__ import annotations

import asyncio
import importlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from lamella.core.clock import SYSTEM_CLOCK
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextRun
from lamella.core.params import RunHookParams
from lamella.middleware._fields import listed
from lamella.types import ConfigError, GenerateResponse, LamellaError

Ctx = GenerateMiddlewareContext
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def _command(value: Any) -> Any:
    if value is None:
        return ()
    words = shlex.split(value) if isinstance(value, str) else listed(value, 'words', "'python', 'server.py'")
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError("give a program with its arguments, such as ['python', 'server.py']")
    return tuple(words)


def _url(value: Any) -> Any:
    parts = urlsplit(value) if isinstance(value, str) else None
    if value is not None and (parts is None or parts.scheme not in ('http', 'https') or not parts.hostname):
        raise ValueError('give an address such as https://example.com/mcp')
    return value


def _patterns(value: Any) -> Any:
    return None if value is None else listed(value, 'tool names', "'read_*'")


class MCPConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `MCP`."""

    command: Annotated[
        tuple[str, ...],
        BeforeValidator(_command),
        Field(description='A program that speaks MCP on its input and output.'),
    ] = ()
    url: Annotated[
        str | None, BeforeValidator(_url), Field(description='The address of a server that speaks Streamable HTTP.')
    ] = None
    env: Annotated[
        Mapping[str, str] | None,
        Field(description='Variables for the program; beside PATH, HOME and the like it gets no others.'),
    ] = None
    cwd: Annotated[str | None, Field(description='The folder that the program runs in.')] = None
    headers: Annotated[Mapping[str, str], Field(description='Headers of each request to the url.')] = {}
    tools: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_patterns),
        Field(description='Only these tools of the server; * stands for any characters. All when left out.'),
    ] = None
    tool_name_prefix: Annotated[
        str, Field(pattern=r'^[A-Za-z0-9_.-]{0,40}$', description='What the names of the tools begin with.')
    ] = ''
    timeout_s: Annotated[Seconds, Field(description='For each call of a tool, and for the list of tools.')] = 60.0
    connect_timeout_s: Annotated[Seconds, Field(description='For starting or reaching the server.')] = 30.0

    @model_validator(mode='after')
    def _one_server(self) -> MCPConfig:
        if bool(self.command) == (self.url is not None):
            raise ValueError('give command= or url=, one of them')
        if self.url is not None and (self.env is not None or self.cwd is not None):
            raise ValueError('env= and cwd= belong to command=')
        if self.command and self.headers:
            raise ValueError('headers= belong to url=')
        return self


class MCPOptions(TypedDict, total=False):
    """The keywords of `MCP`."""

    command: str | Sequence[str]
    url: str
    env: Mapping[str, str] | None
    cwd: str | None
    headers: Mapping[str, str]
    tools: Sequence[str] | None
    tool_name_prefix: str
    timeout_s: float
    connect_timeout_s: float


class MCP(BaseMiddleware[MCPConfig]):
    """Gives the run the tools of one MCP server (modelcontextprotocol.io), which is started by `command` or reached at `url`.

    They are tools like any other: approval, timeouts, idempotency and the rest apply to them. Each run connects, asks for
    the list of tools, and disconnects when it ends; inside of `async with MCP(…) as server:` one connection serves all
    runs of that event loop, opened anew when the server has died, and each run still asks for the list, which may change.

    A server that cannot be reached fails the run (UNAVAILABLE) before the first model call. A tool that answers with an
    error, does not answer within `timeout_s`, or whose server dies in the middle is an error that the model reads; the message
    says when it may have acted all the same. A program gets PATH, HOME and the like and `env`, and none of this process's keys.

    Needs `pip install 'lamella[mcp]'`. Events: `mcp.connected(server, tools)`, `mcp.failed(server, error)`.
    """

    def __init__(self, config: MCPConfig | None = None, **options: Unpack[MCPOptions]) -> None:
        super().__init__(config, **options)
        try:
            self._mcp: Any = importlib.import_module('lamella.middleware._mcp')
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] != 'mcp':
                raise
            raise ConfigError("MCP needs its client: pip install 'lamella[mcp]'") from error
        settings = self.config
        if settings.url is None:
            self.label = f'MCP server {settings.command[0]}'
            self._target = self._mcp.stdio(settings.command[0], settings.command[1:], settings.env, settings.cwd)
        else:
            self.label = f'MCP server {urlsplit(settings.url).hostname}'
            self._target = self._mcp.http(settings.url, settings.headers)
        patterns = [re.escape(name).replace(r'\*', '.*') for name in settings.tools or ('*',)]
        self._allowed = re.compile('|'.join(patterns))
        self._kept: Any = None
        self._keeping: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> MCP:
        """Keep one connection until the block ends. Raises what connecting raises."""
        self._keeping = asyncio.get_running_loop()
        try:
            await self._shared()
        except BaseException:
            self._keeping = None
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        kept, self._kept, self._keeping = self._kept, None, None
        if kept is not None:
            await kept.close()

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        shared = self._keeping is asyncio.get_running_loop()
        try:
            connection = await self._shared() if shared else await self._connected(ctx)
        except LamellaError as error:
            ctx.emit('mcp.failed', server=self.label, error=error)
            raise
        try:
            tools = await connection.tools(self._allows, self.config.tool_name_prefix, ctx.clock, self.config.timeout_s)
            ctx.emit('mcp.connected', server=self.label, tools=len(tools))
            return await next_fn(params.replace(tools=(*params.tools, *tools)), ctx)
        finally:
            if not shared:
                await connection.close()

    def _allows(self, tool: str) -> bool:
        return self._allowed.fullmatch(tool) is not None

    async def _shared(self) -> Any:
        """The kept connection, opened anew when its server is gone; two who find it gone open one."""
        async with self._lock:
            if self._kept is None or self._kept.broken:
                gone, self._kept = self._kept, None
                if gone is not None:
                    await gone.close()
                self._kept = await self._connected(None)
            return self._kept

    async def _connected(self, ctx: Ctx | None) -> Any:
        connection = self._mcp.Connection(self.label, self._target)
        await connection.open(SYSTEM_CLOCK if ctx is None else ctx.clock, self.config.connect_timeout_s)
        return connection
