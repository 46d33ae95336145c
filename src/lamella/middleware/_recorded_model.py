"""The models that recorder and replayer put in the place of the one that is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.middleware._recording import RecordedCall
from lamella.middleware._tape import RecordedAnswer
from lamella.types import Finished, ModelRequest, ModelResponse, StreamPart

Ctx = GenerateMiddlewareContext
LEAVING_S = (
    1.0  # of the replay's own time: who left a call when it was recorded does so now before it says that it has no more
)


class _InPlace(Model):
    """Stands for another model and is in all else as that is."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.info, self.layered = model.name, model.info, model.layered

    def __repr__(self) -> str:
        return repr(self._model)

    @property
    def provider(self) -> str:
        return self._model.provider

    @property
    def option_keys(self) -> tuple[str, ...]:
        return self._model.option_keys

    def filled(self, request: ModelRequest) -> ModelRequest:
        return self._model.filled(request)


class RecordedModel(_InPlace):
    """Asks the model, and writes down what it is asked and what it says."""

    def __init__(self, model: Model, begin: Callable[[ModelRequest], RecordedAnswer]) -> None:
        super().__init__(model)
        self._begin = begin

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        call = self._begin(request)
        try:
            response = await self._model.generate(request, ctx)
        except BaseException as error:
            call.failed(error)
            raise
        call.answered('answer', response)
        return response

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        call, finished = self._begin(request), False
        parts = self._model.stream(request, ctx)
        try:
            async for part in parts:
                call.part(part)
                finished = finished or type(part) is Finished
                yield part
        except BaseException as error:
            if finished and isinstance(error, GeneratorExit):
                call.answered('answer')
            else:
                call.failed(error)
            raise
        else:
            call.answered('answer')
        finally:
            await close(parts)


class Source(Protocol):
    """Where a replay finds its answers."""

    def find(self, request: ModelRequest, model: Model) -> RecordedCall | None:
        """The call to answer from, or `None` to ask the model. Raises for a departure."""

    async def until(self, at_s: float) -> None:
        """The recorded moment has come."""

    def broken_off(self, call: RecordedCall) -> Any:
        """The error for a call whose answer is not in the recording to its end."""


class ReplayedModel(_InPlace):
    """Says what was recorded."""

    def __init__(self, model: Model, source: Source) -> None:
        super().__init__(model)
        self._source = source

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        call = self._source.find(request, self._model)
        if call is None:
            return await self._model.generate(request, ctx)
        await self._source.until(call.ended_s)
        if call.outcome in (None, 'left'):
            await self._source.until(call.ended_s + LEAVING_S)
            raise self._source.broken_off(call)
        return call.answer()

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        call = self._source.find(request, self._model)
        if call is None:
            parts = self._model.stream(request, ctx)
            try:
                async for part in parts:
                    yield part
            finally:
                await close(parts)
            return
        for at_s, part in call.stream():
            await self._source.until(at_s)
            yield part
        await self._source.until(call.ended_s)
        if call.outcome in (None, 'left'):
            await self._source.until(call.ended_s + LEAVING_S)
            raise self._source.broken_off(call)
        if call.outcome == 'error':
            raise call.error()
