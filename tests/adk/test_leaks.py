"""Ten thousand invocations under a real runner: nothing is left of them."""

import gc
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner

from lamella.integrations.adk import FallbackPlugin, LamellaLlm, LamellaPlugin
from lamella.middleware import BaseMiddleware, Retry
from tests.adk.kit import call_answer, rate_limited, runner_of, text_answer, user


class Failing(BaseLlm):
    """The primary model always fails; the backup asks for the tool, and then answers."""

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        if llm_request.model == 'primary':
            raise rate_limited()
        answered = any(part.function_response for part in llm_request.contents[-1].parts)
        yield text_answer('done') if answered else call_answer('look')


class Passing(BaseMiddleware):
    async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        return await next_fn(params, ctx)


async def look() -> dict[str, str]:
    """Looks."""
    return {'seen': 'it'}


async def invocations(runner: InMemoryRunner, count: int, peak: Callable[[], int]) -> tuple[set[Any], int, int]:
    """Each in a session of its own: the attempts that were counted, the most that was remembered at once, and by how many the
    objects of the process grew after the first fifth."""
    service, message = runner.session_service, user('hi')
    attempts, most, before = set[Any](), 0, 0
    for number in range(count):
        session = await service.create_session(app_name='trial', user_id='ann')
        async for event in runner.run_async(user_id='ann', session_id=session.id, new_message=message):
            attempts.add((event.custom_metadata or {}).get('fallback_attempt'))
            most = max(most, peak())
        await service.delete_session(app_name='trial', user_id='ann', session_id=session.id)
        if number == count // 5:
            gc.collect()
            before = len(gc.get_objects())
    gc.collect()
    return attempts, most, len(gc.get_objects()) - before


@pytest.mark.slow
async def test_nothing_is_left_of_ten_thousand_failed_invocations() -> None:
    plugin = FallbackPlugin(root_model='primary', fallback_model='backup')
    runner = runner_of(LlmAgent(name='root', model=Failing(model='primary')), plugin)
    attempts, most, grown = await invocations(runner, 10_000, lambda: len(plugin._memory))
    assert (attempts, most, len(plugin._memory)) == ({1}, 2, 0)  # a count and a call of the one that runs
    assert grown < 500


@pytest.mark.slow
async def test_nothing_is_left_of_layers_around_models_and_tools() -> None:
    fallback = FallbackPlugin(root_model='primary', fallback_model='backup', reissue=True)
    layers = LamellaPlugin([Passing()])
    llm = LamellaLlm(Failing(model='primary'), use=[Retry(max_retries=0)])
    runner = runner_of(LlmAgent(name='root', model=llm, tools=[look]), fallback, layers)
    attempts, most, grown = await invocations(runner, 1000, lambda: len(fallback._memory) + len(layers._runs))
    assert (attempts, most) == ({None, 1, 2}, 3)
    assert (len(fallback._memory), len(layers._runs)) == (0, 0)
    assert grown < 100
