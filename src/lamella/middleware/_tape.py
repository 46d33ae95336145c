"""What a recorder writes of one run, as it happens, and how: a line at a time, whole, at the end of the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lamella.core.chance import Chance
from lamella.core.context import SYSTEM_RANDOM, GenerateMiddlewareContext
from lamella.core.params import ToolHookParams
from lamella.middleware._mask import is_open, without_credentials
from lamella.middleware._pen import Pen
from lamella.middleware._recording import VERSION
from lamella.middleware._recording_codec import plain
from lamella.middleware._recording_errors import plain_error
from lamella.middleware._recording_time import ToldClock
from lamella.types import (
    JSON,
    GenerateResponse,
    Message,
    ModelRequest,
    ReasoningDelta,
    StreamPart,
    TextDelta,
    ToolInputDelta,
)

Ctx = GenerateMiddlewareContext
# Marks a run that is replayed: nobody records it again. The key of a state that belongs to no layer.
REPLAYED = object()
PARENT: ContextVar[str | None] = ContextVar('lamella_recorded_run', default=None)
_TEXTS = (TextDelta, ReasoningDelta, ToolInputDelta)
_LONGEST_HELD = 4096


class Tape:
    """One run on its way into the file. A write that fails ends the recording of this run, and never the run."""

    def __init__(self, path: Path, is_folder: bool, told: Sequence[str], ctx: Ctx) -> None:
        self._ctx, self._told = ctx, told
        self.run_id = ctx.run_id  # before chance has a seed: a replay is a run of its own
        self._pen = Pen(path / f'{self.run_id}.jsonl' if is_folder or path.is_dir() else path)
        self._broken, self._begun, self._in_run = False, False, False
        self._calls, self.turn = 0, 0
        self._last: tuple[int, tuple[Message, ...]] = (0, ())
        self._parent = PARENT.get()
        self._started = 0.0

    def _take_over_chance(self) -> str | None:
        """The seed of the run's chance from now on. An app that was given a chance of its own keeps it."""
        if self._ctx.random is not SYSTEM_RANDOM:
            return None
        seed = os.urandom(16)
        self._ctx.random = Chance(seed)
        return seed.hex()

    def begin(self, request: ModelRequest, model: str, max_turns: int | None = None, *, in_run: bool = True) -> None:
        """The run itself. `in_run` says that `end` will follow."""
        if self._begun:
            return
        self._begun, self._in_run = True, in_run
        seed, clock = self._take_over_chance(), self._ctx.clock
        self._started, self._ctx.clock = clock.now(), ToldClock(clock, self._wait)
        entry: JSON = {
            'type': 'run',
            'lamella_recording': VERSION,
            'run': self.run_id,
            'at': self._ctx.clock.time(),
            'model': model,
            'stream': self._ctx.is_streaming,
            'max_turns': max_turns,
            'parent': self._parent,
            'seed': seed,
        }
        self._write(entry, request=lambda: _sent(self._ctx.tellable(request)), context=self._context)

    def _context(self) -> JSON:
        context: Mapping[str, Any] = self._ctx.context
        return {key: plain(self._ctx.tellable(context[key])) for key in self._told if key in context}

    def end(self, response: GenerateResponse | None, error: BaseException | None) -> None:
        if response is not None:
            self._note('end', {}, 'response', response)
        elif error is not None and _is_leaving(error):
            self._write({'type': 'end', 'run': self.run_id, 's': self._s, 'left': True})
        elif error is not None:
            self._note('end', {}, 'error', error)
        self._pen.close()

    def model_call(self, request: ModelRequest, model: str) -> RecordedAnswer:
        self.begin(request, model, in_run=False)
        number = self._next()

        def asked() -> Any:
            told = self._ctx.tellable(request)
            if not isinstance(told, ModelRequest):
                return plain(told)
            last, before = self._last
            same = _same(before, told.messages)
            self._last = number, told.messages
            written = _sent(told.replace(messages=told.messages[same:]) if same else told)
            return {**written, 'same': {'call': last, 'first': same}} if same else written

        entry: JSON = {
            'type': 'model',
            'run': self.run_id,
            'n': number,
            'turn': self.turn,
            's': self._s,
            'model': model,
        }
        self._write(entry, request=asked)
        return RecordedAnswer(self, number)

    def tool_call(self, params: ToolHookParams) -> RecordedAnswer:
        number, request = self._next(), params.tool_request
        entry: JSON = {
            'type': 'tool',
            'run': self.run_id,
            'n': number,
            'turn': self.turn,
            's': self._s,
            'tool': request.name,
            'ref': request.ref,
        }
        resumed = None if params.approval is None else params.approval.metadata
        self._write(
            entry, input=lambda: asked_of(self._ctx, request.input), resumed=lambda: asked_of(self._ctx, resumed)
        )
        return RecordedAnswer(self, number)

    def _next(self) -> int:
        self._calls += 1
        return self._calls

    @property
    def _s(self) -> float:
        return round(self._ctx.clock.now() - self._started, 6)

    @property
    def now_s(self) -> float:
        return self._s

    def _wait(self, seconds: float) -> None:
        self._write({'type': 'wait', 'run': self.run_id, 's': self._s, 'wait_s': float(seconds)})

    def answered(self, kind: str, number: int, value: Any) -> None:
        self._note(kind, {'n': number}, kind, value)
        self._rest()

    def failed(self, number: int, error: BaseException) -> None:
        if _is_leaving(error):
            self._write({'type': 'left', 'run': self.run_id, 'n': number, 's': self._s})
        else:
            self._note('error', {'n': number}, 'error', error)
        self._rest()

    def part(self, number: int, at_s: float, part: StreamPart) -> None:
        entry: JSON = {'type': 'part', 'run': self.run_id, 'n': number, 's': at_s}
        self._write(entry, part=lambda: plain(_told_or(self._ctx, part)))

    def _rest(self) -> None:
        """Outside of a run nobody says that it ends."""
        if not self._in_run:
            self._pen.close()

    def _note(self, kind: str, about: JSON, name: str, value: Any) -> None:
        def written() -> Any:
            told = _told_or(self._ctx, value)
            return plain_error(told) if isinstance(told, BaseException) else plain(told)

        self._write({'type': kind, 'run': self.run_id, **about, 's': self._s}, **{name: written})

    def _write(self, entry: JSON, **more: Any) -> None:
        if self._broken:
            return
        try:
            self._pen.write({**entry, **{name: make() for name, make in more.items()}})
        except Exception as error:  # an observer never harms the call
            self._broken = True
            with suppress(OSError):  # it is told already
                self._pen.close()
            self._ctx.emit('recorder.failed', path=str(self._pen.path), error=error)


class RecordedAnswer:
    """What comes of one call.

    Pieces of text are written when no credential can be cut in two: at most 4,096 characters of them are held back until then.
    """

    def __init__(self, tape: Tape, number: int) -> None:
        self._tape, self._number = tape, number
        self._held: list[tuple[float, StreamPart]] = []
        self._texts: dict[tuple[type, int], str] = {}

    def part(self, part: StreamPart) -> None:
        text = _text_of(part)
        if text is None and not self._held:
            self._tape.part(self._number, self._tape.now_s, part)
            return
        block = None if text is None else (type(part), part.index)  # type: ignore[union-attr]
        if self._held and text and self._is_done(block if text[:1].isspace() else None):
            self._flush()
        self._held.append((self._tape.now_s, part))
        if block is not None:
            self._texts[block] = self._texts.get(block, '') + (text or '')
        if self._is_done(None) or sum(map(len, self._texts.values())) > _LONGEST_HELD:
            self._flush()

    def _is_done(self, ends: tuple[type, int] | None) -> bool:
        """Whether nothing that is held back can be a part of a credential with what follows, where a space follows in `ends`."""
        return all(
            (block == ends or text[-1:].isspace() or not text) and not is_open(text)
            for block, text in self._texts.items()
        )

    def _flush(self) -> None:
        clean = {block: without_credentials(text) for block, text in self._texts.items()}
        told = set[tuple[type, int]]()
        for at_s, part in self._held:
            text = _text_of(part)
            block = None if text is None else (type(part), part.index)  # type: ignore[union-attr]
            if block is not None and clean[block] != self._texts[block]:
                part = _with_text(part, '' if block in told else clean[block])
                told.add(block)
            self._tape.part(self._number, at_s, part)
        self._held.clear()
        self._texts.clear()

    def answered(self, kind: str, value: Any = None) -> None:
        self._flush()
        self._tape.answered(kind, self._number, value)

    def failed(self, error: BaseException) -> None:
        self._flush()
        self._tape.failed(self._number, error)


def asked_of(ctx: Ctx, value: Any) -> Any:
    """What a tool is given, as it is written and looked for."""
    return plain(ctx.tellable(value))


def sent_of(ctx: Ctx, request: ModelRequest) -> Any:
    """What a model is asked, as it is written and looked for."""
    told = ctx.tellable(request)
    return _sent(told) if isinstance(told, ModelRequest) else plain(told)


def _sent(request: Any) -> Any:
    """A request without what is never sent: its own metadata, and what layers noted beside a tool's answer."""
    if not isinstance(request, ModelRequest):
        return plain(request)
    sent = plain(request.replace(metadata={}))
    for message in sent.get('messages', ()):
        for part in message['content']:
            part.get('tool_response', {}).pop('metadata', None)
    return sent


def _told_or(ctx: Ctx, value: Any) -> Any:
    """What may be told of it; an error where a censor withheld it."""
    told = ctx.tellable(value)
    return RuntimeError(told) if isinstance(told, str) and not isinstance(value, str) else told


def _same(before: tuple[Message, ...], now: tuple[Message, ...]) -> int:
    """How many messages both begin with."""
    same = 0
    for one, two in zip(before, now, strict=False):
        if one is not two and one != two:
            break
        same += 1
    return same


def _is_leaving(error: BaseException) -> bool:
    """Cancelled, or left by the reader."""
    return type(error).__name__ in ('CancelledError', 'GeneratorExit', 'KeyboardInterrupt', 'SystemExit')


def _text_of(part: StreamPart) -> str | None:
    if isinstance(part, ToolInputDelta):
        return part.delta
    return part.text if isinstance(part, (TextDelta, ReasoningDelta)) else None


def _with_text(part: StreamPart, text: str) -> StreamPart:
    if isinstance(part, ToolInputDelta):
        return part.replace(delta=text)
    return part.replace(text=text)
