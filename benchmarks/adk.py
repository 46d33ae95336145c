"""What `LamellaLlm` adds to a call of an agent of Google's ADK, on a model that answers at once; and what the plugins add.

    .venv-adk/bin/python -m benchmarks adk

Runs in the environment of `make adk`, which has google-adk. Anywhere else it says so and measures nothing. The design promises
nothing of this; the floor is the ADK with the bare model.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from benchmarks.measure import Result, per_call, show

ROUNDS = 5
COUNT = 100
HAS_ADK = importlib.util.find_spec('google') is not None and importlib.util.find_spec('google.adk') is not None

if HAS_ADK:
    from google.adk.agents import LlmAgent
    from google.adk.agents.run_config import RunConfig, StreamingMode
    from google.adk.apps import App
    from google.adk.models.base_llm import BaseLlm
    from google.adk.models.llm_request import LlmRequest
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    from lamella.integrations.adk import FallbackPlugin, LamellaLlm, LamellaPlugin
    from lamella.middleware import BaseMiddleware, Fallback, Retry

    class Instant(BaseLlm):
        """Answers at once: five pieces and the whole in a stream."""

        async def generate_content_async(
            self, llm_request: LlmRequest, stream: bool = False
        ) -> AsyncGenerator[LlmResponse, None]:
            if stream:
                for _ in range(5):
                    yield LlmResponse(content=_said('word '), partial=True)
            text = 'word ' * 5
            yield LlmResponse(content=_said(text), partial=False, finish_reason=types.FinishReason.STOP)

    def _said(text: str) -> Any:
        return types.Content(role='model', parts=[types.Part(text=text)])

    class Passing(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            return await next_fn(params, ctx)


def run() -> list[Result]:
    if not HAS_ADK:
        print('adk: google-adk is not in this environment: .venv-adk/bin/python -m benchmarks adk', file=sys.stderr)
        return []
    logging.disable(logging.WARNING)
    return asyncio.run(_measured())


async def _measured() -> list[Result]:
    bare = Instant(model='instant')
    models = {
        'the bare model': bare,
        'LamellaLlm, no layers': LamellaLlm(bare),
        'LamellaLlm, 3 layers': LamellaLlm(bare, use=[Fallback(models=['other']), Retry(), Passing()]),
    }
    results: list[Result] = []
    for mode in ('whole', 'streamed'):
        works = {name: _called(model, mode == 'streamed') for name, model in models.items()}
        results += _rows(
            f'a call by itself, {mode}', await per_call(works, count=COUNT * 4, rounds=ROUNDS), 'the bare model'
        )
    for mode in (StreamingMode.NONE, StreamingMode.SSE):
        works = {name: await _run(model, mode) for name, model in models.items()}
        works['the bare model, FallbackPlugin'] = await _run(bare, mode, FallbackPlugin(fallback_model='other'))
        works['the bare model, LamellaPlugin'] = await _run(bare, mode, LamellaPlugin())
        label = 'streamed' if mode is StreamingMode.SSE else 'whole'
        results += _rows(
            f'a run of an agent, {label}', await per_call(works, count=COUNT, rounds=ROUNDS), 'the bare model'
        )
    return results


def _rows(what: str, figures: dict[str, float], floor: str) -> list[Result]:
    return [
        Result(f'{what}: {name}', value, 'µs', None if name == floor else figures[floor])
        for name, value in figures.items()
    ]


def _called(model: Any, stream: bool) -> Callable[[], Awaitable[object]]:
    async def call() -> None:
        request = LlmRequest(model='instant', contents=[types.Content(role='user', parts=[types.Part(text='hi')])])
        async for _ in model.generate_content_async(request, stream=stream):
            pass

    return call


async def _run(model: Any, mode: Any, *plugins: Any) -> Callable[[], Awaitable[object]]:
    """A session for each run, so that no history grows."""
    runner = InMemoryRunner(app=App(name='bench', root_agent=LlmAgent(name='root', model=model), plugins=list(plugins)))
    config = RunConfig(streaming_mode=mode)

    async def call() -> None:
        session = await runner.session_service.create_session(app_name='bench', user_id='u')
        message = types.Content(role='user', parts=[types.Part(text='hi')])
        async for _ in runner.run_async(user_id='u', session_id=session.id, new_message=message, run_config=config):
            pass
        await runner.session_service.delete_session(app_name='bench', user_id='u', session_id=session.id)

    return call


if __name__ == '__main__':
    show(run())
