"""`AdkModel`: a model of the ADK as one of Lamella's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.integrations.adk._answers import heard
from lamella.integrations.adk._calls import Call, Context
from lamella.integrations.adk._errors import answered_error, translated
from lamella.integrations.adk._pieces import Pieces
from lamella.integrations.adk._registry import llm_of
from lamella.integrations.adk._requests import to_send
from lamella.types import Folder, LamellaError, ModelRequest, ModelResponse, StreamPart

Ctx = GenerateMiddlewareContext


class AdkModel(Model):
    """Any model of the ADK, or one by the name that its registry knows, as in `Fallback(models=[AdkModel('gemini-2.5-pro')])`.

    `name` is the one that the model is asked for, where it is not its own. In Lamella it is called `googleai/…` for Gemini,
    `adk/…` for others without a provider in their name. It works outside of a `LamellaLlm` too.
    """

    info = ModelInfo(structured_output='native')

    def __init__(self, llm: str | BaseLlm, name: str | None = None) -> None:
        self.llm = llm_of(llm)
        self.asked = name or self.llm.model
        provider = 'googleai/' if isinstance(self.llm, Gemini) else '' if '/' in self.asked else 'adk/'
        self.name = f'{provider}{self.asked}'

    def __repr__(self) -> str:
        return f'AdkModel({self.name!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return (self.provider, 'google', 'gemini')

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        call, asked = _call(ctx), self._to_send(request, ctx)
        whole: LlmResponse | None = None
        with self._translating(call, ctx):
            async with aclosing(self.llm.generate_content_async(asked, stream=False)) as answers:
                async for answer in answers:
                    whole = answer
        if whole is None:
            raise LamellaError('UNAVAILABLE', f'{self.name}: the model gave no answer')
        self._refuse_error(whole, call)
        response = heard(whole, ctx)
        if call is not None:
            call.came.append((response, whole))
        return response

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        call, asked = _call(ctx), self._to_send(request, ctx)
        pieces, folder = Pieces(ctx), Folder()
        with self._translating(call, ctx):
            async with aclosing(self.llm.generate_content_async(asked, stream=True)) as answers:
                async for answer in answers:
                    self._refuse_error(answer, call)
                    for part in pieces.take(answer):
                        folder.add(part)
                        yield part
        finished = pieces.end()
        if finished is None:
            raise LamellaError('UNAVAILABLE', f'{self.name}: the stream ended before the answer was finished')
        folder.add(finished)
        if call is not None and pieces.last is not None:
            call.came.append((folder.response(), pieces.last))
        yield finished

    def _to_send(self, request: ModelRequest, ctx: Ctx) -> LlmRequest:
        call = _call(ctx)
        original = None if call is None else call.request
        asked, warnings = to_send(request, self.asked, original, None if call is None else call.llm_request)
        if warnings:
            ctx.emit('model.warnings', model=self.name, warnings=warnings)
        return asked

    @contextmanager
    def _translating(self, call: Call | None, ctx: Ctx) -> Iterator[None]:
        """Errors of the provider become Lamella's, once; everything else passes."""
        try:
            yield
        except LamellaError:
            raise
        except Exception as error:
            known = translated(error, self.name, ctx.clock.time())
            if known is None:
                raise
            if call is not None:
                call.failed.append((known, error))
            raise known from error

    def _refuse_error(self, answer: LlmResponse, call: Call | None) -> None:
        """An answer that is an error of the provider fails, so that layers can act on it."""
        if not answer.error_code or (answer.content and answer.content.parts):
            return
        error = answered_error(answer.error_code, answer.error_message, self.name)
        if error is None:
            return
        if call is not None:
            call.failed.append((error, answer))
        raise error


def _call(ctx: Ctx) -> Call | None:
    given: Any = ctx.context
    return given.call if isinstance(given, Context) else None
