"""One MCP server: a connection in a task of its own, its tools as ours, its results as ours. The one module that imports `mcp`.

The official client's connection must be opened and closed by the same task, and its users come and go: so it gets a task,
which ends with whoever opened it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import AudioContent, CallToolResult, EmbeddedResource, ImageContent, ResourceLink, TextContent
from mcp.types import Tool as MCPTool

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.timeouts import Cutoff
from lamella.core.tools import Tool, ToolContext
from lamella.types import LamellaError, MediaPart, ToolError

Ctx = GenerateMiddlewareContext
MAX_TOOLS = 1_000
CLOSE_WAIT_S = 5.0
_NO_NAME = re.compile(r'[^A-Za-z0-9_.-]')


class Connection:
    """An open connection to one server. `label` names it in errors."""

    def __init__(self, label: str, target: Callable[[AsyncExitStack], Awaitable[Any]]) -> None:
        self.label = label
        self._target = target
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.broken = False

    async def open(self, ctx_clock: Any, timeout_s: float) -> None:
        """Connect. Raises UNAVAILABLE when that fails, DEADLINE_EXCEEDED when it takes too long; nothing is left behind."""
        self._task = asyncio.create_task(self._own())

        def late() -> LamellaError:
            return LamellaError(
                'DEADLINE_EXCEEDED', f'{self.label}: no connection within connect_timeout_s={timeout_s:g}'
            )

        try:
            async with Cutoff(ctx_clock, timeout_s, late):
                await asyncio.shield(self._ready)
        except BaseException:
            await self.close()
            raise

    async def _own(self) -> None:
        """The task that owns the connection, from its opening to its end."""
        try:
            async with AsyncExitStack() as stack:
                client = Client(await self._target(stack))
                self._client = await stack.enter_async_context(client)
                self._ready.set_result(None)
                await self._leave.wait()
        except Exception as error:  # of a library in between: whatever it is, the server is not there
            self.broken = True
            if not self._ready.done():
                self._ready.set_exception(_unavailable(self.label, error))
                self._ready.exception()  # seen: whoever waits for it may be gone

    async def close(self) -> None:
        """End it. The server process of a command ends with it."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leave.set()
        if not self._ready.done():
            task.cancel()
        await asyncio.wait([task], timeout=CLOSE_WAIT_S)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_WAIT_S)
        with suppress(asyncio.CancelledError, Exception):
            task.exception()

    async def tools(
        self, allowed: Callable[[str], bool], prefix: str, clock: Any, timeout_s: float
    ) -> tuple[Tool, ...]:
        """What the server offers now. Raises UNAVAILABLE or DEADLINE_EXCEEDED."""

        def late() -> LamellaError:
            return LamellaError('DEADLINE_EXCEEDED', f'{self.label}: no list of tools within timeout_s={timeout_s:g}')

        found: list[MCPTool] = []
        cursor: str | None = None
        try:
            async with Cutoff(clock, timeout_s, late):
                while len(found) < MAX_TOOLS:
                    page = await self._open_client().list_tools(cursor=cursor, cache_mode='refresh')
                    found += page.tools
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        except MCPError as error:
            self.broken = True
            raise _unavailable(self.label, error) from error
        return tuple([self._tool(tool, prefix, timeout_s) for tool in found[:MAX_TOOLS] if allowed(tool.name)])

    def _open_client(self) -> Client:
        if self._client is None or self.broken:
            raise LamellaError('UNAVAILABLE', f'{self.label}: the server is not connected')
        return self._client

    def _tool(self, tool: MCPTool, prefix: str, timeout_s: float) -> Tool:
        async def run(given: Any, ctx: ToolContext) -> Any:
            return await self._call(tool.name, given, ctx.run, timeout_s)

        name = _NO_NAME.sub('_', f'{prefix}{tool.name}')[:64]
        return Tool(name, tool.description or '', dict(tool.input_schema), run, takes_ctx=True)

    async def _call(self, name: str, given: Any, ctx: Ctx, timeout_s: float) -> Any:
        if given is not None and not isinstance(given, Mapping):
            raise ToolError(f'invalid input for {name}: give an object')

        def late() -> LamellaError:
            return ToolError(
                f'{self.label}: {name} did not answer within timeout_s={timeout_s:g}; it may still be at work'
            )

        try:
            async with Cutoff(ctx.clock, timeout_s, late):
                result = await self._open_client().call_tool(name, dict(given or {}))
        except MCPError as error:
            raise ToolError(self._said(name, error)) from error
        except LamellaError as error:
            if isinstance(error, ToolError):
                raise
            raise ToolError(f'{error.message}; {name} was not called') from error
        return output_of(result, name)

    def _said(self, name: str, error: MCPError) -> str:
        if 'closed' not in str(error).lower():
            return f'{self.label}: {name}: {error}'
        self.broken = True
        return f'{self.label}: the server ended while {name} was at work; it may or may not have done it'


def output_of(result: CallToolResult, name: str) -> Any:
    """What a tool answered: its structured value, or its content. Raises ToolError for what the server calls an error."""
    parts = [_part(block) for block in result.content]
    if result.is_error:
        raise ToolError(
            '\n'.join(part for part in parts if isinstance(part, str)) or f'{name} failed and did not say why'
        )
    structured = result.structured_content
    if structured is not None and not any(isinstance(part, MediaPart) for part in parts):
        return structured['result'] if structured.keys() == {'result'} else structured
    if all(isinstance(part, str) for part in parts):
        return '\n'.join(parts)
    return parts[0] if len(parts) == 1 else parts


def _part(block: Any) -> Any:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            try:
                return MediaPart(data=base64.b64decode(block.data, validate=True), content_type=block.mime_type)
            except (binascii.Error, ValueError):
                return f'[{block.mime_type}, which is no base64]'
        case ResourceLink():
            return f'[{block.name}: {block.uri}]'
        case EmbeddedResource():
            text = getattr(block.resource, 'text', None)
            return text if isinstance(text, str) else f'[{block.resource.uri}]'
    return f'[{type(block).__name__}]'


def stdio(
    command: str, args: tuple[str, ...], env: Mapping[str, str] | None, cwd: str | None
) -> Callable[[AsyncExitStack], Awaitable[Any]]:
    """A server that is a program, spoken to over its standard input and output, with a small environment of its own."""
    parameters = StdioServerParameters(command=command, args=list(args), env=dict(env) if env else None, cwd=cwd)

    async def target(stack: AsyncExitStack) -> Any:
        return parameters

    return target


def http(url: str, headers: Mapping[str, str]) -> Callable[[AsyncExitStack], Awaitable[Any]]:
    """A server behind a URL (Streamable HTTP), with headers for each request."""

    async def target(stack: AsyncExitStack) -> Any:
        client = await stack.enter_async_context(create_mcp_http_client(headers=dict(headers)))
        return streamable_http_client(url, http_client=client)

    return target


def _unavailable(label: str, error: BaseException) -> LamellaError:
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return LamellaError('UNAVAILABLE', f'{label}: {type(first).__name__}: {first}')
