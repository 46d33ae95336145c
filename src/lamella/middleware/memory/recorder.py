"""`Recorder`: writes a run down as it happens, so that it can be replayed without network and without running tools."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextGenerate, NextRun, NextTool
from lamella.core.order import Order
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.middleware._fields import listed, with_first
from lamella.middleware._recorded_model import RecordedModel
from lamella.middleware._tape import PARENT, REPLAYED, Tape
from lamella.types import GenerateResponse, ModelResponse, ToolResponse

Ctx = GenerateMiddlewareContext


def _path(value: Any) -> str:
    if isinstance(value, (str, PathLike)) and isinstance(text := fspath(value), str) and text and '\0' not in text:
        return text
    raise ValueError(f'is {value!r}: give the path of a file, or of a folder for a file for each run')


def _keys(value: Any) -> tuple[Any, ...]:
    return listed(value, 'keys of the context', "'tenant'")


class RecorderConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Recorder`."""

    path: Annotated[
        str,
        BeforeValidator(_path),
        Field(
            description='The file that runs are added to; with a folder, or a slash at its end, a file for each run.'
        ),
    ]
    context: Annotated[
        tuple[str, ...],
        BeforeValidator(_keys),
        Field(description="The keys of the caller's context whose values are recorded; the others are not."),
    ] = ()


class RecorderOptions(TypedDict, total=False):
    """The keywords of `Recorder`."""

    path: str | PathLike[str]
    context: Sequence[str]


class Recorder(BaseMiddleware[RecorderConfig]):
    """Writes each run into a file: what was asked for, every request to a model with its answer (the parts of a stream one by
    one), every tool with its input and output, every failure and wait, each as it happens. `Replayer` and `lamella replay`
    read it.

    `Recorder('runs.jsonl')` adds to the file; several runs and processes may write to one. It stands at the model and at the
    tool themselves, so that each attempt of a retry is one call of the recording. Credentials are masked in all that is
    written, and what was masked is replayed masked. The run's chance gets a seed, which is recorded, unless the app was given
    a chance of its own. What cannot be written ends the recording of the run, and nothing else.

    Event: `recorder.failed(path, error)`, once in a run.
    """

    order = Order(
        better_inside={
            'fallback': 'the answers of the models that it goes on to would not be recorded',
            'tool_approval': 'what nobody approved yet would be recorded as what the tool said',
            'idempotency': 'what it remembers would be recorded as what the tool said',
        },
    )

    def __init__(
        self,
        config: RecorderConfig | str | PathLike[str] | None = None,
        **options: Unpack[RecorderOptions],
    ) -> None:
        if isinstance(config, (str, PathLike)):
            config, options = None, with_first('Recorder', 'path', config, options)
        super().__init__(config, **options)
        self._path, self._is_folder = Path(self.config.path), self.config.path.endswith(('/', '\\'))

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        tape = self._of(ctx)
        if tape is None:
            return await next_fn(params, ctx)
        tape.begin(params.request, params.model.name, params.max_turns)
        try:
            response = await next_fn(params, ctx)
        except BaseException as error:
            tape.end(None, error)
            raise
        tape.end(response, None)
        return response

    async def wrap_generate(self, params: GenerateHookParams, ctx: Ctx, next_fn: NextGenerate) -> ModelResponse:
        tape = self._of(ctx)
        if tape is not None:
            tape.turn = params.iteration + 1
        return await next_fn(params, ctx)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        tape = self._of(ctx)
        if tape is None:
            return params
        name = params.model.name
        return params.replace(model=RecordedModel(params.model, lambda request: tape.model_call(request, name)))

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        tape = self._of(ctx)
        if tape is None:
            return await next_fn(params, ctx)
        call, inside = tape.tool_call(params), PARENT.set(tape.run_id)
        try:
            response = await next_fn(params, ctx)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            PARENT.reset(inside)
        call.answered('output', response)
        return response

    def _of(self, ctx: Ctx) -> Tape | None:
        """What is written of this run; nothing of one that is a replay."""
        mine = ctx.state(self)
        if 'tape' not in mine:
            mine['tape'] = Tape(self._path, self._is_folder, self.config.context, ctx)
        return None if ctx.state(REPLAYED) else mine['tape']
