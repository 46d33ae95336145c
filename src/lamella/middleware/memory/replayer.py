"""`Replayer`: answers a run from its recording, without network and without running tools."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextGenerate, NextRun, NextTool
from lamella.core.order import Order
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.core.tools import Tool
from lamella.middleware._fields import Switch, with_first
from lamella.middleware._recorded_model import LEAVING_S, ReplayedModel
from lamella.middleware._recording import Recording
from lamella.middleware._replay import Replay, Runs
from lamella.middleware._tape import REPLAYED
from lamella.types import ConfigError, GenerateResponse, LamellaError, ModelResponse, ToolResponse

Ctx = GenerateMiddlewareContext


def _recording(value: Any) -> Any:
    if isinstance(value, Recording):
        return value
    if not isinstance(value, (str, PathLike)) or not value:
        raise ValueError(f'is {value!r}: give the path of a recording, or Recording.read(path)')
    try:
        return Recording.read(value)  # type: ignore[arg-type]
    except ConfigError as error:
        raise ValueError(error.message) from None


class ReplayerConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `Replayer`."""

    recording: Annotated[
        Any,
        BeforeValidator(_recording),
        Field(description='The file, the folder of files, or Recording.read(path).'),
    ]
    strict: Annotated[
        Switch, Field(description='Raise where a run departs from its recording; else the model or the tool is called.')
    ] = True
    run: Annotated[str | None, Field(description='The id of the one recorded run to replay; None for all in turn.')] = (
        None
    )


class ReplayerOptions(TypedDict, total=False):
    """The keywords of `Replayer`."""

    recording: Recording | str | PathLike[str]
    strict: bool
    run: str | None


class Replayer(BaseMiddleware[ReplayerConfig]):
    """Answers every call of a model and of a tool from a recording: the same answers, parts, results and errors, in the order in
    which the program asks. No model is asked and no tool is run.

    A run finds its recording by its request: equal ones are taken in turn, each once, and a run without an equal one takes the
    first that is left. In it a call finds its answer by what is sent (messages, tools, settings), also among calls at the same
    time; the same request twice is answered in order. Time is skipped: the run's clock says what it said when it was recorded,
    and nobody waits. Chance is the recorded one, unless the app was given its own.

    Where the run departs from its recording it fails (FAILED_PRECONDITION) with the number of the call, the field that differs
    and both values; `details['replayer']` has them as facts. With `strict=False` the model or the tool is called instead.

    Events: `replayer.began(recorded, calls)`, `replayer.answered(call, turn, what, name)`, `replayer.departed(kind, call, turn,
    line, field, recorded, now, message)`.
    """

    order = Order(
        better_inside={
            'fallback': 'the models that it goes on to would really be asked',
            'tool_approval': 'tools that were approved when they were recorded would not be asked about',
            'idempotency': 'what it remembers would not be kept',
        },
    )

    def __init__(
        self,
        config: ReplayerConfig | Recording | str | PathLike[str] | None = None,
        **options: Unpack[ReplayerOptions],
    ) -> None:
        if isinstance(config, (Recording, str, PathLike)):
            config, options = None, with_first('Replayer', 'recording', config, options)
        super().__init__(config, **options)
        recording: Recording = self.config.recording
        if self.config.run is not None and self.config.run not in {run.id for run in recording.runs}:
            raise ConfigError(f'Replayer: {recording.path} has no run {self.config.run!r}')
        self._runs = Runs(recording, self.config.run)

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        ctx.state(REPLAYED)['by'] = self.name  # before a recorder outside of this begins
        return ()

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        replay = self._of(ctx)
        replay.begin(params.request, params.model.name)
        try:
            response = await next_fn(params, ctx)
        except LamellaError as error:
            if self.config.strict and replay.departure is not None and error is not replay.departure:
                raise replay.departure from error  # a layer made something else of it
            raise
        replay.finish()
        if self.config.strict and replay.departure is not None:
            raise replay.departure
        return response

    async def wrap_generate(self, params: GenerateHookParams, ctx: Ctx, next_fn: NextGenerate) -> ModelResponse:
        self._of(ctx).turn = params.iteration + 1
        return await next_fn(params, ctx)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        return params.replace(model=ReplayedModel(params.model, self._of(ctx)))

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        replay = self._of(ctx)
        call = replay.find_tool(params)
        if call is None:
            return await next_fn(params, ctx)
        await replay.until(call.ended_s)
        if call.outcome in (None, 'left'):
            await replay.until(call.ended_s + LEAVING_S)
            raise replay.broken_off(call)
        if call.outcome == 'error':
            raise call.error()
        response: ToolResponse = call.result
        return response

    def _of(self, ctx: Ctx) -> Replay:
        mine = ctx.state(self)
        if 'replay' not in mine:
            ctx.state(REPLAYED)['by'] = self.name
            mine['replay'] = Replay(self._runs, self.config.strict, ctx)
        known: Replay = mine['replay']
        return known
