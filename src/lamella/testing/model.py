"""A model that says what the test wrote, and remembers what it was asked."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.core.models import fold_stream
from lamella.types import (
    STREAM_PARTS,
    Finished,
    Message,
    ModelRequest,
    ModelResponse,
    StreamPart,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    unfold,
)

Ctx = GenerateMiddlewareContext
_NATIVE = ModelInfo(structured_output='native')
Answer = (
    str
    | ModelResponse
    | ToolRequest
    | BaseException
    | Sequence[StreamPart | ToolRequest | BaseException]
    | Callable[[ModelRequest], Any]
)


class ScriptedModel(Model):
    """Answers with `answers` in turn, and records every request in `requests`.

    An answer is a text, a `ModelResponse`, a `ToolRequest` or a list of them (parallel calls), a list of stream parts (an
    exception in it is raised at its place; without a `Finished` one is added), an exception, or a function of the request
    (sync or async) that gives any of these. `repeat` starts over when the script is at its end; otherwise one call more
    raises AssertionError. `pulled` counts the parts that the last stream gave, `closed` the streams that were left early.
    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        name: str = 'scripted/model',
        repeat: bool = False,
        info: ModelInfo = _NATIVE,
    ) -> None:
        self.name, self.info = name, info
        self._answers, self._repeat = list(answers), repeat
        self.requests: list[ModelRequest] = []
        self.pulled = 0
        self.closed = 0

    def __repr__(self) -> str:
        return f'ScriptedModel({self.name!r}, {len(self._answers)} answers)'

    async def _next(self, request: ModelRequest) -> Any:
        index = len(self.requests)
        self.requests.append(request)
        if self._repeat and self._answers:
            index %= len(self._answers)
        if index >= len(self._answers):
            raise AssertionError(f'{self.name}: call {index + 1}, but the script has {len(self._answers)} answers')
        answer = self._answers[index]
        if callable(answer) and not isinstance(answer, BaseException):
            answer = answer(request)
            if inspect.isawaitable(answer):
                answer = await answer
        return answer

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        return await fold_stream(self.stream(request, ctx))

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        answer = await self._next(request)
        self.pulled = 0
        finished = False
        try:
            for part in _parts(answer):
                if isinstance(part, BaseException):
                    finished = True
                    raise part
                finished = finished or type(part) is Finished
                self.pulled += 1
                yield part
            finished = True
        finally:
            if not finished:
                self.closed += 1


def _parts(answer: Any) -> Iterable[Any]:
    if isinstance(answer, BaseException):
        return [answer]
    if isinstance(answer, str):
        return unfold(ModelResponse.text_of(answer))
    if isinstance(answer, ToolRequest):
        answer = [answer]
    if isinstance(answer, Sequence) and answer and all(isinstance(item, ToolRequest) for item in answer):
        parts = tuple(ToolRequestPart(item) for item in answer)
        answer = ModelResponse(message=Message('assistant', parts), finish_reason='tool_calls')
    if isinstance(answer, ModelResponse):
        return unfold(answer)
    if not isinstance(answer, Sequence):
        raise TypeError(f'a scripted answer is {type(answer).__name__}: see ScriptedModel')
    return _closed(answer)


def _closed(parts: Sequence[Any]) -> Iterable[Any]:
    listed = [ToolRequested(part, index) if isinstance(part, ToolRequest) else part for index, part in enumerate(parts)]
    if listed and (type(listed[-1]) is Finished or isinstance(listed[-1], BaseException)):
        return listed
    if bad := [part for part in listed if type(part) not in STREAM_PARTS]:
        raise TypeError(f'a scripted stream has {type(bad[0]).__name__} in it: give stream parts')
    asked = any(type(part) is ToolRequested for part in listed)
    return [*listed, Finished('tool_calls' if asked else 'stop')]
