"""The contract of `FallbackPlugin`, under a real runner, whole and streamed."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.models.registry import LLMRegistry
from google.genai import types

from lamella.integrations import adk
from lamella.integrations.adk import FallbackPlugin
from lamella.integrations.adk.plugins import fallback_plugin
from lamella.types import ConfigError, LamellaError
from tests.adk.kit import (
    MODE_NAMES,
    MODES,
    SSE,
    FakeLlm,
    Talk,
    Watcher,
    api_error,
    call_answer,
    events_of,
    note_of,
    piece,
    pieces_of,
    rate_limited,
    runner_of,
    text_answer,
    texts,
)

both_modes = pytest.mark.parametrize('mode', MODES, ids=MODE_NAMES)
NOTE = {
    'fallback_triggered': True,
    'original_model': 'primary',
    'fallback_model': 'backup',
    'fallback_attempt': 1,
    'error_code': '429',
}


def plugin(**options: Any) -> FallbackPlugin:
    return FallbackPlugin(root_model='primary', fallback_model='backup', **options)


def agent(*script: Any, model: str = 'primary', **options: Any) -> LlmAgent:
    return LlmAgent(name='root', model=FakeLlm(model, script), **options)


def context(invocation: str = 'i', name: str = 'root') -> Any:
    """A context of its own for each callback, as the ADK makes them."""
    return SimpleNamespace(invocation_id=invocation, agent_name=name)


def test_it_is_found_where_the_seed_has_it() -> None:
    assert fallback_plugin.FallbackPlugin is adk.FallbackPlugin is FallbackPlugin


def test_the_defaults_are_the_seeds() -> None:
    bare = FallbackPlugin()
    assert (bare.name, bare.root_model, bare.fallback_model) == ('fallback_plugin', None, None)
    assert bare.error_status == [429, 504]


@both_modes
async def test_every_request_begins_with_the_root_model(mode: Any) -> None:
    root = agent(call_answer('look'), 'done', model='another', tools=[look])
    assert texts(await events_of(root, plugin(), mode=mode)) == ['done']
    assert root.model.asked == ['primary', 'primary']


def look() -> str:
    """Looks."""
    return 'seen'


async def test_what_another_plugin_left_in_the_request_is_reset() -> None:
    class Sticky(Watcher):
        async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
            llm_request.model = 'left from the last failure'

    root = agent('fine')
    await events_of(root, Sticky('sticky'), plugin())
    assert root.model.asked == ['primary']


@both_modes
@pytest.mark.parametrize('code', ['429', 'RESOURCE_EXHAUSTED', '429 RESOURCE_EXHAUSTED', 'resource_exhausted'])
async def test_an_answer_with_a_matching_error_code_is_noted(mode: Any, code: str) -> None:
    failed = LlmResponse(error_code=code, error_message='slow down', custom_metadata={'mine': 1})
    (event,) = await events_of(agent(failed), plugin(), mode=mode)
    assert event.custom_metadata == {'mine': 1, **NOTE, 'error_code': code}
    assert (event.error_code, event.error_message) == (code, 'slow down')


@both_modes
async def test_a_raised_rate_limit_is_noted_and_answered(mode: Any) -> None:
    root = agent(rate_limited())
    (event,) = await events_of(root, plugin(), mode=mode)
    assert note_of(event) == NOTE
    assert event.error_code == '429'
    assert 'the provider said 429' in event.error_message
    assert len(root.model.asked) == 1  # never issued again


@both_modes
async def test_raised_errors_may_stay_raised(mode: Any) -> None:
    seen = Watcher('after')
    with pytest.raises(Exception, match='the provider said 429'):
        await events_of(agent(rate_limited()), plugin(raised='raise'), seen, mode=mode)
    assert len(seen.errors) == 1  # and the plugins after this one are asked


class StatusError(Exception):
    status_code = 429


class ResponseError(Exception):
    response = SimpleNamespace(status_code=504, headers={})


class GrpcError(Exception):
    def code(self) -> Any:
        return SimpleNamespace(name='RESOURCE_EXHAUSTED')


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (api_error(504, 'DEADLINE_EXCEEDED'), '504'),
        (StatusError(), '429'),
        (ResponseError(), '504'),
        (GrpcError(), 'RESOURCE_EXHAUSTED'),
        (LamellaError('RESOURCE_EXHAUSTED', 'no'), '429'),
        (TimeoutError(), '504'),
    ],
    ids=['genai', 'status_code', 'response', 'grpc', 'lamella', 'timeout'],
)
async def test_errors_of_all_clients_are_understood(error: Exception, code: str) -> None:
    (event,) = await events_of(agent(error), plugin())
    assert note_of(event) == {**NOTE, 'error_code': code}


@both_modes
@pytest.mark.parametrize('error', [api_error(500), api_error(400), TypeError('a bug')], ids=['500', '400', 'bug'])
async def test_other_errors_pass_untouched(mode: Any, error: Exception) -> None:
    with pytest.raises(type(error)):
        await events_of(agent(error), plugin(), mode=mode)


@pytest.mark.parametrize('code', ['SAFETY', 'MAX_TOKENS', '4290', '42', 'MODEL_RETURNED_NO_CONTENT'])
async def test_other_codes_are_not_noted(code: str) -> None:
    (event,) = await events_of(agent(LlmResponse(error_code=code)), plugin())
    assert note_of(event) == {}


@pytest.mark.parametrize('status', [[503], ['503'], ['UNAVAILABLE'], ['unavailable']])
async def test_the_codes_to_watch_are_numbers_strings_or_names(status: list[Any]) -> None:
    (event,) = await events_of(agent(api_error(503, 'UNAVAILABLE')), plugin(error_status=status))
    assert note_of(event)['error_code'] == '503'


async def test_nothing_is_noted_without_a_fallback_model() -> None:
    with pytest.raises(Exception, match='429'):
        await events_of(agent(rate_limited()), FallbackPlugin(root_model='primary'))
    (event,) = await events_of(agent(LlmResponse(error_code='429')), FallbackPlugin(root_model='primary'))
    assert event.custom_metadata is None


async def test_a_good_answer_is_left_alone() -> None:
    (event,) = await events_of(agent(text_answer('fine', custom_metadata={'mine': 1})), plugin())
    assert event.custom_metadata == {'mine': 1}


async def test_without_a_root_model_the_agents_own_is_the_original() -> None:
    (event,) = await events_of(agent(rate_limited(), model='own'), FallbackPlugin(fallback_model='backup'))
    assert note_of(event)['original_model'] == 'own'


@both_modes
async def test_attempts_are_counted_through_one_invocation_and_anew_in_the_next(mode: Any) -> None:
    """A tool's answer leads to a second call that fails as the first did; the context object is another one each time."""
    failing = [call_answer_with('429'), call_answer_with('429'), 'done']
    talk = Talk(runner_of(agent(*failing, *failing, tools=[look]), plugin()), mode)
    for _ in range(2):
        events = await talk.say('go')
        attempts = [note_of(event)['fallback_attempt'] for event in events if note_of(event)]
        assert attempts == [1, 2]


def call_answer_with(code: str) -> LlmResponse:
    """An answer that asks for a tool and carries an error code."""
    return call_answer('look').model_copy(update={'error_code': code})


async def test_two_apps_do_not_count_for_each_other() -> None:
    for _ in range(2):
        (event,) = await events_of(agent(rate_limited()), plugin())
        assert note_of(event)['fallback_attempt'] == 1


async def test_callbacks_called_by_hand_count_by_context() -> None:
    """With doubles in the ADK's place, as unit tests of plugins have them."""
    own = plugin()
    request = LlmRequest(model='other')
    assert await own.before_model_callback(callback_context=context(), llm_request=request) is None
    assert request.model == 'primary'
    counted = []
    for invocation in ('i', 'i', 'j', 'i'):
        answer = LlmResponse(error_code='429')
        await own.after_model_callback(callback_context=context(invocation), llm_response=answer)
        assert answer.custom_metadata is not None
        counted.append(answer.custom_metadata['fallback_attempt'])
    assert counted == [1, 2, 1, 3]


async def test_after_ten_thousand_invocations_nothing_is_left() -> None:
    own = plugin()
    talk = Talk(runner_of(agent(rate_limited()), own))
    for _ in range(20):
        await talk.say('go')
    for number in range(10_000):
        of_this = context(f'i{number}')
        request = LlmRequest(model='other')
        await own.before_model_callback(callback_context=of_this, llm_request=request)
        assert await own.on_model_error_callback(callback_context=of_this, llm_request=request, error=rate_limited())
        await own.after_run_callback(invocation_context=of_this)
    assert len(own._memory) == 0


async def test_invocations_whose_end_nobody_tells_are_pruned() -> None:
    own = plugin(max_contexts=100)
    for number in range(10_000):
        answer = LlmResponse(error_code='429')
        await own.before_model_callback(callback_context=context(f'i{number}'), llm_request=LlmRequest())
        await own.after_model_callback(callback_context=context(f'i{number}'), llm_response=answer)
    assert len(own._memory) == 200  # a count and a call for each


async def test_a_failed_run_leaves_nothing() -> None:
    own = plugin()
    with pytest.raises(TypeError):
        await events_of(agent(TypeError('a bug')), own)
    assert len(own._memory) == 0


async def test_a_cancelled_run_of_which_the_adk_tells_nothing_leaves_no_request() -> None:
    class Stuck(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
            begun.set()
            await asyncio.Event().wait()
            yield None

    own, begun = plugin(), asyncio.Event()
    run = asyncio.create_task(events_of(LlmAgent(name='root', model=Stuck('own')), own))
    await begun.wait()
    assert len(own._memory) == 1
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    del run
    gc.collect()
    assert len(own._memory) == 0


@both_modes
async def test_reissue_asks_the_fallback_model_once(mode: Any) -> None:
    llm = FakeLlm('primary', [rate_limited()], backup=['from the backup'])
    events = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), mode=mode)
    assert texts(events) == ['from the backup']
    assert note_of(events[-1]) == NOTE
    assert events[-1].error_code is None
    assert llm.asked == ['primary', 'backup']


@both_modes
async def test_reissue_replaces_an_answer_that_is_an_error(mode: Any) -> None:
    llm = FakeLlm('primary', [LlmResponse(error_code='429', error_message='no')], backup=['from the backup'])
    after = Watcher('after')
    events = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), after, mode=mode)
    assert texts(events) == ['from the backup']
    assert (note_of(events[-1]), events[-1].error_code, events[-1].error_message) == (NOTE, None, None)
    assert [answer.content.parts[0].text for answer in after.answers] == ['from the backup']


async def test_reissue_goes_on_with_tools() -> None:
    llm = FakeLlm('primary', [rate_limited(), 'done'], backup=[call_answer('look')])
    events = await events_of(LlmAgent(name='root', model=llm, tools=[look]), plugin(reissue=True))
    assert texts(events) == ['done']
    assert llm.asked == ['primary', 'backup', 'primary']  # and begins with the primary again


async def test_reissue_never_follows_partial_text() -> None:
    llm = FakeLlm('primary', [[piece('half an ans'), rate_limited()]], backup=['another answer'])
    events = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), mode=SSE)
    assert llm.asked == ['primary']
    assert pieces_of(events) == ['half an ans']
    assert note_of(events[-1]) == NOTE
    assert events[-1].error_code == '429'


async def test_partial_thoughts_are_partial_content_too() -> None:
    llm = FakeLlm('primary', [[piece('hm', thought=True), rate_limited()]], backup=['another answer'])
    await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), mode=SSE)
    assert llm.asked == ['primary']


async def test_what_streams_and_then_fails_is_counted_once() -> None:
    own = plugin()
    llm = FakeLlm('primary', [[piece('half'), LlmResponse(error_code='429', partial=False)]])
    events = await events_of(LlmAgent(name='root', model=llm), own, mode=SSE)
    assert [note_of(event).get('fallback_attempt') for event in events] == [None, 1]


@both_modes
async def test_a_fallback_that_fails_too_says_how(mode: Any) -> None:
    llm = FakeLlm('primary', [rate_limited()], backup=[api_error(503, 'UNAVAILABLE')])
    (event,) = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), mode=mode)
    assert event.error_code == '503'
    assert note_of(event) == NOTE
    assert llm.asked == ['primary', 'backup']


async def test_a_fallback_that_is_broken_leaves_the_first_error() -> None:
    llm = FakeLlm('primary', [rate_limited()], backup=[TypeError('a bug')])
    (event,) = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True))
    assert (event.error_code, note_of(event)) == ('429', NOTE)


async def test_the_fallback_may_be_a_model() -> None:
    backup = FakeLlm('backup', ['from an object'])
    own = FallbackPlugin(root_model='primary', fallback_model=backup, reissue=True)
    events = await events_of(agent(rate_limited()), own)
    assert (texts(events), note_of(events[-1])['fallback_model']) == (['from an object'], 'backup')


async def test_a_fallback_of_another_kind_comes_from_the_adks_registry() -> None:
    class Registered(FakeLlm):
        def __init__(self, model: str) -> None:
            super().__init__(model, [f'I am {model}'])

        @classmethod
        def supported_models(cls) -> list[str]:
            return ['registered-for-this-test-.*']

    LLMRegistry.register(Registered)
    own = FallbackPlugin(fallback_model='registered-for-this-test-1', reissue=True)
    assert texts(await events_of(agent(rate_limited()), own)) == ['I am registered-for-this-test-1']


async def test_the_limit_of_calls_holds_for_the_fallback_too() -> None:
    llm = FakeLlm('primary', [rate_limited()], backup=['from the backup'])
    limited = types_run_config(1)
    (event,) = await events_of(LlmAgent(name='root', model=llm), plugin(reissue=True), mode=limited)
    assert (event.error_code, llm.asked) == ('429', ['primary'])


def types_run_config(calls: int) -> Any:
    return SSE.model_copy(update={'max_llm_calls': calls})


async def test_the_failed_request_is_not_changed_by_the_second() -> None:
    llm = FakeLlm('primary', [rate_limited()], backup=['fine'])
    await events_of(LlmAgent(name='root', model=llm, instruction='Be brief.'), plugin(reissue=True))
    first, second = llm.requests
    assert first.contents == second.contents
    assert first.config.system_instruction == second.config.system_instruction
    assert first.config is not second.config


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'error_status': 429}, 'error_status is 429: give a list'),
        ({'error_status': '429'}, 'give a list'),
        ({'error_status': [True, None, '']}, r'error_status\[0\].*error_status\[1\].*error_status\[2\]'),
        ({'root_model': 5}, 'root_model is 5'),
        (
            {'root_model': {'root': ' '}, 'fallback_model': {'root': 5}},
            r"root_model\['root'\].*fallback_model\['root'\]",
        ),
        ({'raised': 'never'}, "raised is 'never'"),
        ({'max_contexts': 0}, 'max_contexts is 0'),
    ],
)
def test_wrong_settings_are_told_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FallbackPlugin(**options)


def test_an_empty_list_watches_nothing() -> None:
    assert FallbackPlugin(error_status=[])._codes == frozenset()


def test_finish_reasons_are_codes_like_others() -> None:
    assert FallbackPlugin(error_status=['SAFETY'])._matches(types.FinishReason.SAFETY)
