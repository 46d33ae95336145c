"""Lamella's own plugins return what each protocol demands: the simulator verifies it over four turns with a tool."""

from collections.abc import Callable
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.plugin import Plugin
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Simulator

ADAPTIVE = {'anthropic': {'thinking': {'type': 'adaptive'}}}
ENABLED = {'anthropic': {'thinking': {'type': 'enabled', 'budget_tokens': 1024}}}
THOUGHTS = {'google': {'thinkingConfig': {'includeThoughts': True}}}
SUMMARY: dict[str, Any] = {'openai': {'reasoning': {'effort': 'low', 'summary': 'auto'}}}
STATELESS = {'openai': {**SUMMARY['openai'], 'store': False}}

WAYS: list[tuple[str, Callable[[str], Plugin], Any]] = [
    ('anthropic/claude-opus-4-6', lambda url: Anthropic('k', url), ADAPTIVE),
    ('anthropic/claude-sonnet-4-5', lambda url: Anthropic('k', url), ENABLED),
    ('googleai/gemini-3-pro', lambda url: GoogleAI('k', url), THOUGHTS),
    ('openai/gpt-5', lambda url: OpenAI('k', f'{url}/v1', api='responses'), SUMMARY),
    ('openai/gpt-5', lambda url: OpenAI('k', f'{url}/v1', api='responses'), STATELESS),
]


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f'sunny in {city}'


async def one_turn(ai: Lamella, messages: list[Any], options: Any, *, stream: bool) -> Any:
    if not stream:
        return await ai.generate(messages=messages, tools=[get_weather], provider_options=options)
    async with ai.generate_stream(messages=messages, tools=[get_weather], provider_options=options) as parts:
        async for _ in parts:
            pass
        return await parts.response


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize(('model', 'plugin', 'options'), WAYS)
async def test_a_conversation_with_tools_thinks_through_four_turns(
    model: str, plugin: Callable[[str], Plugin], options: Any, stream: bool
) -> None:
    messages: list[Any] = []
    async with Simulator() as sim, Lamella(plugins=[plugin(sim.base_url)], model=model) as ai:
        for city in ('Paris', 'Rome', 'Oslo', 'Lima'):
            messages.append({'role': 'user', 'content': f'What is the weather in {city}?'})
            response = await one_turn(ai, messages, options, stream=stream)
            assert response.text.endswith(f'get_weather answered: sunny in {city}')
            assert response.usage.reasoning_tokens > 0
            messages = list(response.messages)
        assert [record.status for record in sim.requests] == [200] * 8
