"""`ToolOutputTruncation`: a long tool output loses its middle before a model reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextRun, NextTool
from lamella.core.params import RunHookParams, ToolHookParams
from lamella.middleware._cut_json import fits, length_of, shortened
from lamella.middleware._fields import Switch
from lamella.middleware._state import ask_store
from lamella.middleware._tool_names import ToolNamesOrAll, ToolSet
from lamella.types import GenerateResponse, LamellaError, ToolError, ToolResponse

Ctx = GenerateMiddlewareContext


class ToolOutputTruncationConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ToolOutputTruncation`."""

    max_chars: Annotated[int, Field(strict=True, ge=100, description='Characters that are left of an output at most.')]
    tools: Annotated[
        ToolNamesOrAll, Field(description='The tools whose output is cut, * for any characters; None for all.')
    ] = None
    tail_share: Annotated[
        float, Field(strict=True, ge=0, le=1, description='The share of what is left that is kept from the end.')
    ] = 0.3
    artifacts: Annotated[
        Switch, Field(description='Keep the whole output as an artifact of the session, which the run must have.')
    ] = False


class ToolOutputTruncationOptions(TypedDict, total=False):
    """The keywords of `ToolOutputTruncation`."""

    max_chars: int
    tools: Sequence[str] | None
    tail_share: float
    artifacts: bool


class ToolOutputTruncation(BaseMiddleware[ToolOutputTruncationConfig]):
    """Cuts the middle out of tool outputs, and of the errors that tools tell, that are longer than `max_chars`, and says how
    much was cut. The beginning and the end are kept.

    A text is cut between characters as a reader sees them (an accent stays with its letter, a flag whole). An object or a list
    stays valid JSON of the same kind: lists and objects lose items from their middle, long texts in them theirs. Media are
    left alone and count for nothing.

    With `artifacts` the whole output is kept in the session as `tool-output/<tool>/<ref>`, and the note says so; a run without
    a session is then refused (FAILED_PRECONDITION). When the store is away the output is cut all the same, and not kept.

    Events: `tool_output_truncation.cut(tool, ref, chars, kept_chars, artifact)`; `store.away`. A response that was cut has
    `metadata['tool_output_truncation'] = {'chars', 'kept_chars', 'artifact'}`.
    """

    def __init__(
        self, config: ToolOutputTruncationConfig | None = None, **options: Unpack[ToolOutputTruncationOptions]
    ) -> None:
        super().__init__(config, **options)
        self._tools = ToolSet(self.config.tools)

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        if self.config.artifacts and ctx.session is None:
            raise LamellaError(
                'FAILED_PRECONDITION',
                f'{type(self).__name__}(artifacts=True) keeps outputs in a session, and this run has none: '
                'use generate(session=…), or leave artifacts out',
            )
        return await next_fn(params, ctx)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        if params.tool.name not in self._tools:
            return await next_fn(params, ctx)
        try:
            response = await next_fn(params, ctx)
        except ToolError as error:
            if len(error.message) <= self.config.max_chars:
                raise
            output, _ = await self._cut(error.message, len(error.message), params, ctx)
            raise ToolError(output, details=error.details) from error
        if fits(response.output, self.config.max_chars):
            return response
        output, note = await self._cut(response.output, length_of(response.output), params, ctx)
        return response.replace(output=output, metadata={**(response.metadata or {}), **note})

    async def _cut(self, output: Any, chars: int, params: ToolHookParams, ctx: Ctx) -> tuple[Any, dict[str, Any]]:
        artifact = await self._keep(output, params, ctx) if self.config.artifacts else None
        more = '' if artifact is None else f'; the whole is the artifact {artifact}'
        shorter = shortened(output, self.config.max_chars, self.config.tail_share, more)
        facts = {'chars': chars, 'kept_chars': length_of(shorter), 'artifact': artifact}
        ctx.emit('tool_output_truncation.cut', tool=params.tool.name, ref=params.tool_request.ref, **facts)
        return shorter, {self.name: facts}

    async def _keep(self, output: Any, params: ToolHookParams, ctx: Ctx) -> str | None:
        """Where the whole output is kept; `None` when that did not work."""
        if ctx.session is None:
            return None
        name = f'tool-output/{params.tool.name}/{params.tool_request.ref}'[:1024]
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, indent=1, default=str)
        kind = 'text/plain' if isinstance(output, str) else 'application/json'
        saved = ctx.session.artifacts.save(name, text.encode('utf-8', 'backslashreplace'), kind)
        info = await ask_store(self, ctx, saved, 'allow', None)
        return None if info is None else info.name
