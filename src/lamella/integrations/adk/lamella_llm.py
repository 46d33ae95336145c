"""`LamellaLlm`: a model for ADK agents with any of Lamella's layers around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from pydantic import PrivateAttr

from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.plugin import Plugin
from lamella.core.ports import Store
from lamella.core.stack import Stack
from lamella.integrations.adk._answers import partial, spoken
from lamella.integrations.adk._calls import Call, Context
from lamella.integrations.adk._errors import for_adk
from lamella.integrations.adk._home import Home
from lamella.integrations.adk._registry import llm_of
from lamella.integrations.adk._requests import received
from lamella.integrations.adk.model import AdkModel
from lamella.types import (
    ConfigError,
    Folder,
    LamellaError,
    ModelResponse,
    ReasoningDelta,
    Restarted,
    StreamPart,
    TextDelta,
)

Values = Mapping[str, Any] | Callable[[LlmRequest], Mapping[str, Any]]
_OF_MODELS = frozenset(('transform_params', 'wrap_model', 'wrap_stream'))


class LamellaLlm(BaseLlm):
    """`Agent(model=LamellaLlm('gemini-2.5-flash', use=[Retry(), Cache()]))`: layers around every call of an agent's model.

    `model` is a model of the ADK or the name of one. `use` are layers, the outermost first; `Fallback(models=[…])` may name
    models of the ADK (`'gemini-2.5-pro'`, asked at the same address and with the same credentials where the model is of the same
    kind) and, with `plugins`, of Lamella (`'openai/gpt-5'`). `context` are values that layers read (a tenant, a user), or a
    function of the request that gives them. `sinks` receive events, `store` is where layers remember.

    Whole and streamed alike. What no layer changed goes to the model, and comes from it, as it is: signatures, unknown fields,
    live clients. What layers noted is `custom_metadata['lamella']`. An error that leaves is the one that the model raised; where
    there is none, google-genai's `ClientError` or `ServerError` with the layer's error as its cause. A stream that is started
    over after text went out says so in a piece with `custom_metadata['lamella_restarted']`; the whole answer at its end is right.

    Live connections (`connect`) go to the model without the layers. Raises ConfigError for a layer that would never act.
    """

    _llm: BaseLlm = PrivateAttr()
    _home: Home = PrivateAttr()
    _context: Values = PrivateAttr()

    def __init__(
        self,
        model: str | BaseLlm,
        use: Sequence[BaseMiddleware[Any] | Stack] = (),
        *,
        plugins: Sequence[Plugin] = (),
        sinks: Sequence[Sink] = (),
        context: Values | None = None,
        store: Store | str | None = None,
        **options: Any,
    ) -> None:
        llm = llm_of(model)
        super().__init__(model=llm.model)
        self._llm, self._context = llm, {} if context is None else context
        self._home = Home(plugins=list(plugins), use=use, sinks=list(sinks), store=store, **options)
        self._home.own = llm
        if idle := [repr(layer) for layer in self._home.stack.layers if layer._hooks and not layer._hooks & _OF_MODELS]:
            raise ConfigError(
                f'use: {", ".join(idle)} would never act around a model: give it to LamellaPlugin(use=[…]), which is '
                'around tools'
            )

    @property
    def inner(self) -> BaseLlm:
        """The model within."""
        return self._llm

    @property
    def capabilities(self) -> Any:
        return self._llm.capabilities

    def connect(self, llm_request: LlmRequest) -> AbstractAsyncContextManager[Any]:
        connection: AbstractAsyncContextManager[Any] = self._llm.connect(llm_request)
        return connection

    def explain(self) -> str:
        """The layers as text, the outermost first."""
        return self._home.stack.explain()

    async def aclose(self) -> None:
        """Close what the layers and the plugins opened. The ADK does not call it; the model within stays as it is."""
        await self._home.aclose()

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        name = llm_request.model or self._llm.model
        if not llm_request.contents:
            self._llm._maybe_append_user_content(llm_request)
        try:
            call = Call(self._llm, llm_request, received(llm_request, name))
        except LamellaError as error:
            raise for_adk(error) from error
        answers = self._streamed(call, name) if stream else self._whole(call, name)
        async with aclosing(answers):
            try:
                async for answer in answers:
                    yield answer
            except LamellaError as error:
                yield _outcome(call, error)

    async def _whole(self, call: Call, name: str) -> AsyncGenerator[LlmResponse, None]:
        model, values = AdkModel(self._llm, name), Context.of(self._values(call.llm_request), call)
        response = await self._home.call_model(call.request, model=model, context=values)
        said = response.turns[-1] if response.turns else response
        yield spoken(said, name, call.same_as(said))

    async def _streamed(self, call: Call, name: str) -> AsyncGenerator[LlmResponse, None]:
        model, values = AdkModel(self._llm, name), Context.of(self._values(call.llm_request), call)
        folder = Folder()
        async with self._home.call_model_stream(call.request, model=model, context=values) as parts:
            async for part in parts:
                folder.add(part)
                if (piece := _piece(part)) is not None:
                    yield piece
        said: ModelResponse = folder.response()
        answer = spoken(said, name, call.same_as(said))
        answer.partial = False
        yield answer

    def _values(self, llm_request: LlmRequest) -> Mapping[str, Any]:
        given = self._context
        return given(llm_request) if callable(given) else given


def _piece(part: StreamPart) -> LlmResponse | None:
    """What is shown of a part while the answer is on its way. Calls and files come with the whole."""
    if isinstance(part, TextDelta) and part.text:
        return partial(part.text)
    if isinstance(part, ReasoningDelta) and part.text:
        return partial(part.text, thought=True)
    if isinstance(part, Restarted):
        return partial('', custom_metadata={'lamella_restarted': part.reason or 'restarted'})
    return None


def _outcome(call: Call, error: LamellaError) -> LlmResponse:
    """The answer that a model gave where that is an error; else raises what a user of the ADK expects."""
    origin = call.origin_of(error)
    if isinstance(origin, LlmResponse):
        return origin
    if origin is None:
        raise for_adk(error) from error
    raise origin
