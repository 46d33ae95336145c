"""`FallbackPlugin` with sub-agents, parallel agents, and other plugins before and after it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, SequentialAgent
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.plugins.global_instruction_plugin import GlobalInstructionPlugin
from google.adk.plugins.logging_plugin import LoggingPlugin
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.tools.agent_tool import AgentTool
from google.adk.workflow import JoinNode, Workflow

from lamella.integrations.adk import FallbackPlugin
from tests.adk.kit import (
    MODE_NAMES,
    MODES,
    SSE,
    FakeLlm,
    Talk,
    Watcher,
    call_answer,
    events_of,
    note_of,
    piece,
    rate_limited,
    runner_of,
    texts,
)

both_modes = pytest.mark.parametrize('mode', MODES, ids=MODE_NAMES)


def agent(name: str, llm: FakeLlm | None, *children: Any, **options: Any) -> LlmAgent:
    return LlmAgent(
        name=name, description=name, sub_agents=list(children), **({'model': llm} if llm else {}), **options
    )


def notes_by_agent(events: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for event in events:
        if note := note_of(event):
            found.setdefault(event.author, []).append(
                (note['original_model'], note['fallback_model'], note['fallback_attempt'])
            )
    return found


@both_modes
async def test_a_sub_agent_keeps_its_own_model(mode: Any) -> None:
    helper_llm = FakeLlm('helper-own', ['helped'])
    root_llm = FakeLlm('drifted', [call_answer('transfer_to_agent', {'agent_name': 'helper'})])
    root = agent('root', root_llm, agent('helper', helper_llm))
    assert texts(await events_of(root, FallbackPlugin(root_model='primary', fallback_model='backup'), mode=mode)) == [
        'helped'
    ]
    assert (root_llm.asked, helper_llm.asked) == (['primary'], ['helper-own'])


async def test_a_sub_agent_that_inherits_its_model_is_reset_with_the_root() -> None:
    llm = FakeLlm('drifted', [call_answer('transfer_to_agent', {'agent_name': 'helper'}), 'helped'])
    await events_of(agent('root', llm, agent('helper', None)), FallbackPlugin(root_model='primary'))
    assert llm.asked == ['primary', 'primary']


@both_modes
async def test_models_by_the_agents_name(mode: Any) -> None:
    helper_llm = FakeLlm('helper-own', [rate_limited()])
    other_llm = FakeLlm('other-own', [rate_limited()])
    root = SequentialAgent(name='all', sub_agents=[agent('helper', helper_llm), agent('other', other_llm)])
    own = FallbackPlugin(
        root_model={'helper': 'helper-root', 'other': None},
        fallback_model={'helper': 'helper-backup', 'other': 'other-backup'},
    )
    events = await events_of(root, own, mode=mode)
    assert notes_by_agent(events) == {
        'helper': [('helper-root', 'helper-backup', 1)],
        'other': [('other-own', 'other-backup', 1)],
    }


async def test_an_agent_without_a_fallback_raises_as_ever() -> None:
    root = agent('root', FakeLlm('own', [rate_limited()]))
    with pytest.raises(Exception, match='429'):
        await events_of(root, FallbackPlugin(fallback_model={'helper': 'backup', 'root': None}))


@both_modes
async def test_parallel_agents_count_for_themselves(mode: Any) -> None:
    children = [
        agent(f'child_{n}', FakeLlm(f'own-{n}', [failing_call(), failing_call(), 'done']), tools=[look])
        for n in range(8)
    ]
    events = await events_of(
        ParallelAgent(name='all', sub_agents=children), FallbackPlugin(fallback_model='backup'), mode=mode
    )
    assert notes_by_agent(events) == {
        f'child_{n}': [(f'own-{n}', 'backup', 1), (f'own-{n}', 'backup', 2)] for n in range(8)
    }


async def test_the_nodes_of_a_workflow_keep_their_models_and_count_for_themselves() -> None:
    nodes = [agent(name, FakeLlm(f'own-{name}', [rate_limited()], backup=[name])) for name in ('a', 'b')]
    flow = Workflow(name='flow', edges=[('START', tuple(nodes), JoinNode(name='both'))])
    own = FallbackPlugin(root_model='primary', fallback_model='backup', reissue=True)
    events = await events_of(flow, own)
    assert sorted(texts(events)) == ['a', 'b']
    assert notes_by_agent(events) == {name: [(f'own-{name}', 'backup', 1)] for name in ('a', 'b')}
    assert len(own._memory) == 0


async def look() -> str:
    """Looks."""
    await asyncio.sleep(0)
    return 'seen'


def failing_call() -> LlmResponse:
    return call_answer('look').model_copy(update={'error_code': 'RESOURCE_EXHAUSTED'})


async def test_parallel_agents_reissue_each_its_own_request() -> None:
    """All are in their first call at once; one has shown text before it fails, which holds back its own fallback alone."""
    together = asyncio.Barrier(3)

    class Meeting(FakeLlm):
        async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[Any, None]:
            if llm_request.model == self.model:
                await together.wait()
            async for answer in super().generate_content_async(llm_request, stream):
                yield answer
                await asyncio.sleep(0)

    spoken = [piece('half'), rate_limited()]
    llms = [
        Meeting(f'own-{n}', [script], backup=[f'backup of {n}'])
        for n, script in enumerate([[rate_limited()], spoken, [rate_limited()]])
    ]
    children = [agent(f'child_{n}', llm, instruction=f'You are {n}.') for n, llm in enumerate(llms)]
    events = await events_of(
        ParallelAgent(name='all', sub_agents=children), FallbackPlugin(fallback_model='backup', reissue=True), mode=SSE
    )
    assert sorted(texts(events)) == ['backup of 0', 'backup of 2']
    assert [llm.asked for llm in llms] == [['own-0', 'backup'], ['own-1'], ['own-2', 'backup']]
    for n, llm in enumerate(llms):
        assert all(f'You are {n}.' in request.config.system_instruction for request in llm.requests)


async def test_many_invocations_at_once_do_not_mix() -> None:
    own = FallbackPlugin(fallback_model='backup', reissue=True)
    runner = runner_of(agent('root', FakeLlm('own', [rate_limited()], backup=['fine'])), own)
    all_events = await asyncio.gather(*[Talk(runner).say(f'{n}') for n in range(50)])
    assert [note_of(events[-1])['fallback_attempt'] for events in all_events] == [1] * 50
    assert len(own._memory) == 0


async def test_a_loop_of_agents_counts_on() -> None:
    root = LoopAgent(name='all', max_iterations=3, sub_agents=[agent('worker', FakeLlm('own', [rate_limited()]))])
    events = await events_of(root, FallbackPlugin(fallback_model='backup'))
    assert notes_by_agent(events) == {'worker': [('own', 'backup', n) for n in (1, 2, 3)]}


async def test_an_agent_as_a_tool_has_runs_of_its_own() -> None:
    own = FallbackPlugin(root_model={'root': 'primary'}, fallback_model='backup', reissue=True)
    inner = agent('inner', FakeLlm('inner-own', [rate_limited()], backup=['from within']))
    outer = FakeLlm('outer', [call_answer('inner', {'request': 'go'}), 'done'])
    events = await events_of(agent('root', outer, tools=[AgentTool(inner)]), own)
    assert texts(events) == ['done']
    assert inner.model.asked == ['inner-own', 'backup']
    assert len(own._memory) == 0


@both_modes
@pytest.mark.parametrize('place', ['before', 'after'])
@pytest.mark.parametrize(
    'make',
    [
        lambda: Watcher('watcher'),
        LoggingPlugin,
        lambda: GlobalInstructionPlugin('Be kind.'),
        lambda: ReflectAndRetryToolPlugin(),
    ],
    ids=['watcher', 'logging', 'instruction', 'reflect'],
)
@pytest.mark.parametrize('fails', ['raised', 'answered'])
async def test_other_plugins_stand_before_or_after_it(mode: Any, place: str, make: Any, fails: str) -> None:
    own, other = FallbackPlugin(root_model='primary', fallback_model='backup'), make()
    failure = rate_limited() if fails == 'raised' else LlmResponse(error_code='429')
    plugins = [other, own] if place == 'before' else [own, other]
    (event,) = await events_of(agent('root', FakeLlm('any', [failure])), *plugins, mode=mode)
    assert note_of(event)['fallback_attempt'] == 1
    if isinstance(other, Watcher) and place == 'after':
        assert other.models == ['primary']
        assert [note_of(answer)['fallback_attempt'] for answer in other.answers] == [1]


async def test_the_agents_own_callbacks_are_asked_after_it() -> None:
    seen: list[Any] = []

    def after(callback_context: Any, llm_response: Any) -> None:
        seen.append(note_of(llm_response))

    root = agent('root', FakeLlm('own', [LlmResponse(error_code='429')]), after_model_callback=after)
    await events_of(root, FallbackPlugin(fallback_model='backup'))
    assert [note['fallback_attempt'] for note in seen] == [1]


async def test_a_plugin_before_it_that_answers_is_believed() -> None:
    class Cached(BasePlugin):
        async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> LlmResponse:
            return call_answer_text('from a cache')

    llm = FakeLlm('own', [rate_limited()])
    events = await events_of(
        agent('root', llm), Cached('cached'), FallbackPlugin(fallback_model='backup', reissue=True)
    )
    assert (texts(events), llm.asked) == (['from a cache'], [])


def call_answer_text(text: str) -> LlmResponse:
    return piece(text).model_copy(update={'partial': None})


async def test_two_of_them_need_two_names() -> None:
    llm = FakeLlm('own', [rate_limited()])
    outer = FallbackPlugin(name='limits', fallback_model='backup', error_status=[429])
    other = FallbackPlugin(name='timeouts', fallback_model='slower', error_status=[504])
    (event,) = await events_of(agent('root', llm), other, outer)
    assert note_of(event)['fallback_model'] == 'backup'
