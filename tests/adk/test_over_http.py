"""From a runner through google-genai's own client to a server, and back: the simulator plays Gemini, and fails on schedule."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.google_llm import Gemini
from google.adk.models.lite_llm import LiteLlm
from google.genai import types
from google.genai.errors import APIError

from lamella.integrations.adk import FallbackPlugin, LamellaLlm, LamellaPlugin
from lamella.middleware import BaseMiddleware, Fallback, Retry, ToolApproval
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.testing import CollectingSink
from lamella.types import TextDelta
from tests.adk.kit import MODE_NAMES, MODES, SSE, Talk, events_of, note_of, pieces_of, runner_of, texts

both_modes = pytest.mark.parametrize('mode', MODES, ids=MODE_NAMES)
FAST, STRONG = 'gemini-2.5-flash', 'gemini-2.5-pro'


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as started:
        yield started


def gemini(simulator: Simulator, name: str = FAST) -> Gemini:
    return Gemini(model=name, base_url=simulator.base_url, client_kwargs={'api_key': 'any'})


def agent(model: Any, **options: Any) -> LlmAgent:
    return LlmAgent(name='root', model=model, **options)


def asked(simulator: Simulator) -> list[str]:
    return [request.model for request in simulator.requests]


def limited(times: int | None = 1, **options: Any) -> Fault:
    return Fault('status', status=429, model=FAST, times=times, **options)


class Changing(BaseMiddleware):
    """Touches every request and every text, so that both are written anew."""

    async def transform_params(self, params: Any, ctx: Any) -> Any:
        *others, last = params.request.messages
        changed = last.replace(content=tuple(_marked(part) for part in last.content))
        return params.replace(request=params.request.replace(messages=(*others, changed)))

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        async for part in next_fn(params, ctx):
            yield part.replace(text=part.text.upper()) if isinstance(part, TextDelta) else part


def _marked(part: Any) -> Any:
    return part.replace(text=f'{part.text} please') if hasattr(part, 'text') else part


async def weather(city: str) -> dict[str, str]:
    """The weather in a city.

    Args:
        city: Which.
    """
    return {'sky': 'rain'}


@both_modes
async def test_a_scheduled_rate_limit_is_noted(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[limited()])
    talk = Talk(runner_of(agent(gemini(simulator)), FallbackPlugin(root_model=FAST, fallback_model=STRONG)), mode)
    (event,) = await talk.say('hi')
    assert note_of(event) == {
        'fallback_triggered': True, 'original_model': FAST, 'fallback_model': STRONG, 'fallback_attempt': 1, 'error_code': '429',
    }  # fmt: skip
    assert 'hi there' in texts(await talk.say('hi there'))[0]
    assert asked(simulator) == [FAST, FAST]


@both_modes
@pytest.mark.parametrize('status', [429, 504])
async def test_reissue_goes_to_the_same_server_with_the_other_name(
    simulator: Simulator, mode: Any, status: int
) -> None:
    simulator.use(faults=[Fault('status', status=status, model=FAST)])
    own = FallbackPlugin(root_model=FAST, fallback_model=STRONG, reissue=True)
    events = await events_of(agent(gemini(simulator)), own, mode=mode, message='two rivers')
    assert 'two rivers' in texts(events)[0]
    assert (events[-1].model_version, note_of(events[-1])['error_code']) == (STRONG, str(status))
    assert asked(simulator)[-2:] == [FAST, STRONG]


@both_modes
async def test_reissue_of_a_layered_model_goes_through_its_layers(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[limited(times=None), Fault('status', status=503, model=STRONG, times=1)])
    llm = LamellaLlm(gemini(simulator), use=[Retry(max_retries=1, initial_delay_ms=0)])
    own = FallbackPlugin(fallback_model=STRONG, reissue=True)
    events = await events_of(agent(llm), own, mode=mode, message='two rivers')
    assert 'two rivers' in texts(events)[0]
    assert asked(simulator) == [FAST, FAST, STRONG, STRONG]


@both_modes
async def test_the_root_model_of_the_plugin_is_the_layered_models_too(simulator: Simulator, mode: Any) -> None:
    own = FallbackPlugin(root_model=STRONG, fallback_model=FAST)
    await events_of(agent(LamellaLlm(gemini(simulator), use=[Retry()])), own, mode=mode)
    assert asked(simulator) == [STRONG]


@both_modes
async def test_retry_inside_fallback(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[limited(times=None)])
    llm = LamellaLlm(gemini(simulator), use=[Fallback(models=[STRONG]), Retry(max_retries=1, initial_delay_ms=0)])
    events = await events_of(agent(llm), mode=mode, message='two rivers')
    assert 'two rivers' in texts(events)[0]
    assert asked(simulator) == [FAST, FAST, STRONG]
    assert note_of(events[-1])['fallback_model'] == f'googleai/{STRONG}'
    assert events[-1].usage_metadata.total_token_count > 0


@both_modes
async def test_the_servers_retry_after_is_the_layers(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[limited(retry_after_s=17)])
    sink = CollectingSink()
    with pytest.raises(APIError) as caught:
        await events_of(agent(LamellaLlm(gemini(simulator), use=[Retry(max_delay_ms=1000)], sinks=[sink])), mode=mode)
    assert caught.value.code == 429
    assert sink.named('model.error')[0].facts['error'].retry_after_s == 17


async def test_a_stream_cut_in_the_middle_is_not_started_over(simulator: Simulator) -> None:
    simulator.use(faults=[Fault('cut', after_parts=2, times=1)])
    llm = LamellaLlm(gemini(simulator), use=[Retry(initial_delay_ms=0)])
    shown: list[Any] = []
    talk = Talk(runner_of(agent(llm)), SSE)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the HTTP client of google-genai raises
        shown += await talk.say('a long answer, please')
    assert len(simulator.requests) == 1


async def test_a_cut_stream_may_restart_visibly(simulator: Simulator) -> None:
    simulator.use(faults=[Fault('cut', after_parts=2, times=1)])
    llm = LamellaLlm(gemini(simulator), use=[Retry(initial_delay_ms=0, on_partial='restart')])
    events = await events_of(agent(llm), mode=SSE, message='two rivers')
    restarted = next(n for n, event in enumerate(events) if (event.custom_metadata or {}).get('lamella_restarted'))
    assert ''.join(pieces_of(events[restarted:])) == texts(events)[0]
    assert 'two rivers' in texts(events)[0]


@both_modes
@pytest.mark.parametrize('layers', [[], [Changing()]], ids=['plain', 'changed'])
async def test_thinking_models_get_their_signatures_back(simulator: Simulator, mode: Any, layers: list[Any]) -> None:
    """Gemini 3 refuses a turn whose calls come back without the signature that they went out with, and so does the simulator."""
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    llm = LamellaLlm(gemini(simulator, 'gemini-3.1-pro-preview'), use=layers)
    root = agent(llm, tools=[weather], generate_content_config=config)
    events = await events_of(root, mode=mode, message='Call weather for Bergen')
    assert [response.response for event in events for response in event.get_function_responses()] == [{'sky': 'rain'}]
    signatures = [part.thought_signature for event in events if not event.partial for part in event.content.parts]
    assert any(signatures)
    assert texts(events)
    assert len(simulator.requests) == 2


@both_modes
async def test_fallback_to_another_vendor_through_lamella(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[limited(times=None, after=1)])  # after the tool has run
    other = OpenAI(base_url=f'{simulator.base_url}/v1', api_key='any')
    llm = LamellaLlm(gemini(simulator), use=[Fallback(models=['openai/gpt-5'])], plugins=[other])
    root = agent(llm, tools=[weather], instruction='Be brief.')
    events = await events_of(root, mode=mode, message='Call weather for Bergen')
    assert asked(simulator) == [FAST, FAST, 'gpt-5']
    assert texts(events)
    assert note_of(events[-1])['fallback_model'] == 'openai/gpt-5'
    assert events[-1].usage_metadata.total_token_count > 0


@both_modes
async def test_litellm_in_the_adk_inside_lamella(simulator: Simulator, mode: Any) -> None:
    simulator.use(faults=[Fault('status', status=429, times=2)])
    lite = LiteLlm(
        model='openai/gpt-5', api_base=f'{simulator.base_url}/v1', api_key='any', num_retries=0, max_retries=0
    )
    llm = LamellaLlm(lite, use=[Retry(initial_delay_ms=0, max_delay_ms=10)])
    events = await events_of(agent(llm), mode=mode, message='two rivers')
    assert 'two rivers' in texts(events)[0]
    assert len(simulator.requests) == 3


async def test_litellms_rate_limit_is_one_to_the_plugin(simulator: Simulator) -> None:
    simulator.use(faults=[Fault('status', status=429)])
    lite = LiteLlm(
        model='openai/gpt-5', api_base=f'{simulator.base_url}/v1', api_key='any', num_retries=0, max_retries=0
    )
    (event,) = await events_of(agent(lite), FallbackPlugin(fallback_model='openai/gpt-5-mini'))
    assert note_of(event)['error_code'] == '429'


@both_modes
async def test_everything_together(simulator: Simulator, mode: Any) -> None:
    """Layers on the model, layers around the tool, an approval, and the plugin of the seed around it all."""
    simulator.use(faults=[limited(times=2)])
    llm = LamellaLlm(gemini(simulator), use=[Retry(initial_delay_ms=0, max_delay_ms=10)])
    plugins = [FallbackPlugin(root_model=FAST, fallback_model=STRONG), LamellaPlugin([ToolApproval()])]
    talk = Talk(runner_of(agent(llm, tools=[weather]), *plugins), mode)
    events = await talk.say('Call weather for Bergen')
    (waiting,) = [c for event in events for c in event.get_function_calls() if c.name == 'adk_request_confirmation']
    answer = types.FunctionResponse(id=waiting.id, name=waiting.name, response={'confirmed': True})
    events = await talk.say(types.Content(role='user', parts=[types.Part(function_response=answer)]))
    assert {'sky': 'rain'} in [response.response for event in events for response in event.get_function_responses()]
    assert texts(events)
