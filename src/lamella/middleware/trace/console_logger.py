"""`ConsoleLogger`: what happens in a run, one line for each event, for the person at the terminal."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Protocol, TypedDict, Unpack, runtime_checkable

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.events import Event
from lamella.core.middleware import BaseMiddleware, NextEmbed
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.tools import Tool
from lamella.middleware._fields import Switch
from lamella.middleware._lines import Line, line_of, message_line, one_line
from lamella.types import EmbeddingResponse

Ctx = GenerateMiddlewareContext
Paint = Callable[[str, str], str]


@runtime_checkable
class TextStream(Protocol):
    """What lines are written to: `sys.stderr`, an open text file, `io.StringIO` …"""

    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...
    def isatty(self) -> bool: ...


def _stream(value: Any) -> Any:
    if value is None or isinstance(value, TextStream):
        return value
    raise ValueError(f'is a {type(value).__name__}: give a text stream such as sys.stdout, or None for sys.stderr')


class ConsoleLoggerConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ConsoleLogger`."""

    stream: Annotated[
        Any, BeforeValidator(_stream), Field(description='Where lines go; the sys.stderr of the moment when left out.')
    ] = None
    show_input: Annotated[Switch, Field(description='Print what models and tools are given, cut short.')] = False
    max_chars: Annotated[int, Field(strict=True, ge=20, description='Where a text inside of a line is cut.')] = 200


class ConsoleLoggerOptions(TypedDict, total=False):
    """The keywords of `ConsoleLogger`."""

    stream: TextStream | None
    show_input: bool
    max_chars: int


class ConsoleLogger(BaseMiddleware[ConsoleLoggerConfig]):
    """Prints each attempt, wait, switch, tool and cost on one line, with the end of the run's id in front.

    In colour on a terminal when `rich` is installed and NO_COLOR is not set, plain otherwise. Credentials are masked. What
    models and tools are given is printed only with `show_input`: the last message of each model call, and tool input. A
    stream that cannot be written to never harms a run.

    It listens to the run's events and stands in no stream of parts: it subscribes where a run asks its layers for tools.
    Fixed on a model by `wrap_language_model` it tells of a run from the first call of that model on. However often it is
    there, a run is told once to a stream.
    """

    def __init__(self, config: ConsoleLoggerConfig | None = None, **options: Unpack[ConsoleLoggerOptions]) -> None:
        super().__init__(config, **options)
        self._painter: tuple[Any, Paint] = (None, _plain)

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        self._subscribed(ctx)
        return ()

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        mine, messages = self._subscribed(ctx), params.request.messages
        if self.config.show_input and mine['tells'] and messages and mine.get('said') is not messages:
            mine['said'] = messages
            with suppress(Exception):
                line = message_line(ctx.tellable(messages[-1]), self.config.max_chars)
                self._write(ctx.run_id, ctx.clock.now() - mine['since'], line)
        return params

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        self._subscribed(ctx)
        return await next_fn(params, ctx)

    def _subscribed(self, ctx: Ctx) -> dict[str, Any]:
        """What this layer notes of the run; at first it subscribes, unless the run is told to the same stream already."""
        mine = ctx.state(self)
        if 'since' in mine:
            return mine
        told: list[Any] = ctx.state(ConsoleLogger).setdefault('told', [])
        stream = self._target()
        mine['since'], mine['tells'] = ctx.clock.now(), not any(other is stream for other in told)
        if mine['tells']:
            told.append(stream)
            ctx.sinks = (*ctx.sinks, partial(self._tell, mine['since']))
        return mine

    def _target(self) -> Any:
        return sys.stderr if self.config.stream is None else self.config.stream

    def _tell(self, since: float, event: Event) -> None:
        with suppress(Exception):
            line = line_of(event, self.config.show_input, self.config.max_chars)
            if line is not None:
                self._write(event.run_id, event.at_s - since, line)

    def _write(self, run_id: str, elapsed_s: float, line: Line) -> None:
        about, text, colour = line
        plain = one_line(f'{run_id[-6:]} {elapsed_s:+9.3f}s {about:<8} {text}')
        stream = self._target()
        if self._painter[0] is not stream:
            self._painter = (stream, painter(stream))
        painted = self._painter[1](plain, colour)
        try:
            stream.write(f'{painted}\n')
        except UnicodeEncodeError:
            stream.write(f'{plain.encode("ascii", "backslashreplace").decode()}\n')
        stream.flush()


def painter(stream: TextStream) -> Paint:
    """How to colour lines for this stream: not at all, unless it is a terminal, `rich` is there and nobody objects."""
    if not stream.isatty() or os.environ.get('NO_COLOR'):
        return _plain
    try:
        console = importlib.import_module('rich.console').Console(file=io.StringIO(), force_terminal=True)
    except ImportError:
        return _plain
    if console.legacy_windows:  # knows no escape codes
        return _plain

    def paint(text: str, colour: str) -> str:
        with console.capture() as painted:  # written by us: rich ends the program when its own writing fails
            console.print(text, style=colour, end='', soft_wrap=True, markup=False, highlight=False, emoji=False)
        return str(painted.get())

    return paint


def _plain(text: str, colour: str) -> str:
    return text
