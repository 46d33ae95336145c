"""What type checkers promise users of wrapped models and of embeddings. mypy reads this file; nothing runs it.

A `type: ignore` with its code states that the line is an error; when it stops being one, mypy says so.
"""

from collections.abc import AsyncGenerator
from typing import Any, assert_type

from lamella import (
    Lamella,
    ModelRef,
    ModelResponse,
    StreamPart,
    wrap_embedding_model,
    wrap_language_model,
    wrap_provider,
)
from lamella.core.middleware import AnyAnswer, AnyParams, Ctx, Next
from lamella.middleware import BaseMiddleware, DefaultEmbeddingSettings, EmbedHookParams, Retry
from lamella.plugins.openai import OpenAI
from lamella.types import EmbeddingResponse, Vector


class Either(BaseMiddleware[Any]):
    """A layer that treats model calls and embedding calls alike."""

    async def wrap_model(self, params: AnyParams, ctx: Ctx, next_fn: Next[AnyParams, AnyAnswer]) -> AnyAnswer:
        return await next_fn(params.replace(attempt=params.attempt + 1), ctx)

    wrap_embed = wrap_model


async def static(ai: Lamella, params: EmbedHookParams) -> None:
    wrapped = wrap_language_model(model='openai/gpt-5', middleware=Retry())
    wrap_language_model(model=ModelRef('openai/gpt-5'), middleware=[Retry(), Either()], model_id='x')
    assert_type(await wrapped.ask('hi'), ModelResponse)
    assert_type(wrapped.ask_stream('hi', context={'tenant': 'a'}), AsyncGenerator[StreamPart, None])
    ai.model_alias('fast', wrapped)
    await ai.generate(model=wrapped, prompt='hi')
    Lamella(plugins=[wrap_provider(OpenAI(), Retry())])

    embedder = wrap_embedding_model(model='openai/e', middleware=[Either(), DefaultEmbeddingSettings(dimensions=8)])
    assert_type(await embedder.embed(['a', 'b']), EmbeddingResponse)
    response = await ai.embed('a', model=embedder, dimensions=8, use=[Either()])
    assert_type(response.vector, Vector)
    assert_type(params.request.texts, tuple[str, ...])

    await ai.embed('a', dimension=8)  # type: ignore[call-arg]
    await ai.embed(5)  # type: ignore[arg-type]
    wrap_language_model(model='x', middleware=5)  # type: ignore[arg-type]
    wrapped.ask(prompt=5)  # type: ignore[arg-type, unused-coroutine]
