"""`ToolRetry`: runs a tool again after a transient failure, for tools that are safe to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.order import Order
from lamella.core.params import ToolHookParams
from lamella.middleware._backoff import floor_s, wait_before
from lamella.middleware._fields import Count, Duration, Statuses, Switch, listed
from lamella.middleware._tool_names import ToolNames, ToolSet
from lamella.types import (
    TRANSIENT,
    ConfigError,
    LamellaError,
    Rejected,
    Status,
    ToolError,
    ToolResponse,
    UnknownNameError,
)

Ctx = GenerateMiddlewareContext
OnExhausted = Literal['raise', 'tell']


def _classes(value: Any) -> tuple[Any, ...]:
    given = listed(value, 'exception classes', 'ConnectionError')
    wrong = [item for item in given if not (isinstance(item, type) and issubclass(item, Exception))]
    if wrong:
        raise ValueError(f'{wrong[0]!r} is no exception class, such as ConnectionError')
    return given


class ToolRetryConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ToolRetry`."""

    tools: Annotated[ToolNames, Field(description='The tools that are safe to run twice, * for any characters.')]
    max_retries: Annotated[Count, Field(description='Attempts after the first.')] = 2
    initial_delay_ms: Annotated[Duration, Field(description='The longest wait before the first retry.')] = 200
    max_delay_ms: Annotated[Duration, Field(description='No wait is longer; a tool that asks for more ends it.')] = (
        10_000
    )
    backoff_factor: Annotated[Duration, Field(ge=1, description='What the wait is multiplied by at each retry.')] = 2.0
    no_jitter: Annotated[
        Switch, Field(description='Wait exactly the computed time instead of a random part of it.')
    ] = False
    statuses: Annotated[Statuses, Field(description='The statuses of LamellaErrors that are retried.')] = TRANSIENT
    exceptions: Annotated[
        tuple[type[Exception], ...],
        BeforeValidator(_classes),
        Field(description='Other exceptions that are retried; ToolError only when it is named here.'),
    ] = (ConnectionError, TimeoutError)
    on_exhausted: Annotated[
        OnExhausted,
        Field(description='Raise the last error, which ends the run; or tell the model that the tool failed.'),
    ] = 'raise'


class ToolRetryOptions(TypedDict, total=False):
    """The keywords of `ToolRetry`."""

    tools: Sequence[str]
    max_retries: int
    initial_delay_ms: float
    max_delay_ms: float
    backoff_factor: float
    no_jitter: bool
    statuses: Sequence[Status]
    exceptions: Sequence[type[Exception]]
    on_exhausted: OnExhausted


class ToolRetry(BaseMiddleware[ToolRetryConfig]):
    """Runs one of `tools` again when it raises one of `exceptions` or a `LamellaError` with one of `statuses`, up to
    `max_retries` times. Name only tools that may run twice: a failure does not mean that nothing was done.

    Waits are those of `Retry`: full jitter, a growing cap, `retry_after_s` as a floor. The last error is raised at once when
    that is above `max_delay_ms`, when the wait would pass the run's deadline, or when the retries are used up; an exhausted
    retry raises, unless `on_exhausted='tell'`: then the model reads that the tool failed, and how often, and the run goes on.

    Never retried: interrupts, cancellation, the end of a run, wrong settings, a refusal that does not say when to come back,
    what is final (`details['retryable']` is false), and a `ToolError`, which is meant for the model, unless `exceptions` names
    it.

    Events: `tool_retry.wait(tool, ref, attempt, wait_s, error)`, `tool_retry.gave_up(tool, ref, attempts, reason, error)`. A
    response that took retries has `metadata['tool_retry'] = {'attempts', 'waited_s'}`.
    """

    order = Order(better_inside={'tool_approval': 'each attempt would be asked about anew'})

    def __init__(self, config: ToolRetryConfig | None = None, **options: Unpack[ToolRetryOptions]) -> None:
        super().__init__(config, **options)
        self._tools = ToolSet(self.config.tools)
        self._own = tuple(kind for kind in self.config.exceptions if issubclass(kind, LamellaError))

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        if params.tool.name not in self._tools:
            return await next_fn(params, ctx)
        asked, retries, waited_s = params, 0, 0.0
        while True:
            try:
                response = await next_fn(asked, ctx)
            except Exception as error:
                wait_s = self._plan(error, retries, params, ctx)
                if wait_s is None:
                    raise
            else:
                return response if not retries else _noted(response, retries, waited_s)
            await ctx.clock.sleep(wait_s)
            retries, waited_s = retries + 1, waited_s + wait_s
            asked = params.replace(attempt=params.attempt + retries)

    def _plan(self, error: Exception, retries: int, params: ToolHookParams, ctx: Ctx) -> float | None:
        """Seconds until the next attempt, or `None` for an error that passes on. Raises ToolError when the model is told."""
        call = {'tool': params.tool.name, 'ref': params.tool_request.ref}
        reason = self._why_not(error, retries)
        if reason is None:
            least_s = floor_s(error) if isinstance(error, LamellaError) else 0.0
            wait_s = wait_before(self.config, retries, least_s, ctx.random.uniform)
            remaining_s = ctx.remaining_s()
            if remaining_s is None or wait_s < remaining_s:
                ctx.emit('tool_retry.wait', **call, attempt=retries + 1, wait_s=wait_s, error=error)
                return wait_s
            reason = 'deadline'
        if reason == 'kind':
            return None
        ctx.emit('tool_retry.gave_up', **call, attempts=retries + 1, reason=reason, error=error)
        if self.config.on_exhausted == 'tell' and reason in ('exhausted', 'retry_after'):
            raise ToolError(_failed(params.tool.name, error, retries + 1), details=_details(error)) from error
        return None

    def _why_not(self, error: Exception, retries: int) -> str | None:
        """Why this error is not retried: `kind` when it never would be."""
        if not self._is_retried(error):
            return 'kind'
        if retries >= self.config.max_retries:
            return 'exhausted'
        if isinstance(error, LamellaError) and floor_s(error) > self.config.max_delay_ms / 1000:
            return 'retry_after'
        return None

    def _is_retried(self, error: Exception) -> bool:
        if not isinstance(error, LamellaError):
            return isinstance(error, self.config.exceptions)
        if isinstance(error, (ConfigError, UnknownNameError)) or error.details.get('retryable') is False:
            return False
        if isinstance(error, self._own):
            return True
        if isinstance(error, ToolError) or (isinstance(error, Rejected) and error.retry_after_s is None):
            return False
        return error.status in self.config.statuses


def _noted(response: ToolResponse, retries: int, waited_s: float) -> ToolResponse:
    note = {'tool_retry': {'attempts': retries + 1, 'waited_s': waited_s}}
    return response.replace(metadata={**(response.metadata or {}), **note})


def _failed(tool: str, error: Exception, attempts: int) -> str:
    """What the model reads: the kind of failure, and not its text, which may hold what is not the model's business."""
    kind = error.status if isinstance(error, LamellaError) else type(error).__name__
    times = 'at the first attempt' if attempts == 1 else f'{attempts} times'
    return f'{tool} failed {times} ({kind}): try something else, or later'


def _details(error: Exception) -> dict[str, Any]:
    return dict(error.details) if isinstance(error, LamellaError) else {}
