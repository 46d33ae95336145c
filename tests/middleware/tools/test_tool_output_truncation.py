"""`ToolOutputTruncation`: what is cut, what stays, and where the whole is kept. (How texts and values are cut: test_cut.)"""

import asyncio
import json
from random import Random
from typing import Any

import pytest

from lamella import Lamella
from lamella.middleware import ToolOutputTruncation
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, LamellaError, MediaPart, ToolError, ToolRequest
from tests.middleware.kit import both, world
from tests.middleware.tools.calls import call, said

LONG = 'begin ' + 'x' * 5000 + ' end'


def gives(output: Any) -> Any:
    def look() -> Any:
        if isinstance(output, Exception):
            raise output
        return output

    return look


async def test_a_long_text_loses_its_middle_and_says_how_much() -> None:
    called = await call(ToolOutputTruncation(max_chars=1000), 'look', tools=[gives(LONG)])
    assert len(called.output) <= 1000
    assert called.output.startswith('begin xxx')
    assert called.output.endswith('xxx end')
    (facts,) = called.facts('tool_output_truncation.cut')
    kept = len(called.output)
    assert facts == {'tool': 'look', 'ref': 'r-1', 'chars': len(LONG), 'kept_chars': kept, 'artifact': None}
    head, _, rest = called.output.partition('\n… ')
    count, _, tail = rest.partition(' characters cut …\n')
    assert len(head) + int(count.replace(',', '')) + len(tail) == len(LONG)


async def test_the_response_says_that_it_was_cut() -> None:
    app = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']})
    response = await app.ai.generate(prompt='go', use=[ToolOutputTruncation(max_chars=1000)], tools=[gives(LONG)])
    answer = response.turns[0].tool_responses[0].tool_response
    assert answer.metadata == {
        'tool_output_truncation': {'chars': len(LONG), 'kept_chars': len(answer.output), 'artifact': None}
    }
    assert app.models['x/a'].requests[1].messages[-1].tool_responses[0].tool_response.output == answer.output


@pytest.mark.parametrize('output', ['', 'x' * 1000, None, 3, {'a': 1}, ['x' * 900], {'text': 'ä' * 980}])
async def test_what_is_short_enough_is_left_as_it_is(output: Any) -> None:
    called = await call(ToolOutputTruncation(max_chars=1000), 'look', tools=[gives(output)])
    assert (called.output, called.facts('tool_output_truncation.cut')) == (output, [])


async def test_an_object_stays_an_object() -> None:
    output = {'rows': [{'id': n, 'text': 'x' * 50} for n in range(500)], 'total': 500}
    short = await said(ToolOutputTruncation(max_chars=1000), 'look', tools=[gives(output)])
    assert len(json.dumps(short, ensure_ascii=False, separators=(',', ':'))) <= 1000
    assert (short['total'], short['rows'][0]['id'], short['rows'][-1]['id']) == (500, 0, 499)


async def test_media_are_left_alone() -> None:
    picture = MediaPart(data=b'x' * 100_000, content_type='image/png')
    assert await said(ToolOutputTruncation(max_chars=100), 'look', tools=[gives(picture)]) == picture


async def test_only_the_named_tools_are_cut() -> None:
    assert await said(ToolOutputTruncation(max_chars=100, tools=['other']), 'look', tools=[gives(LONG)]) == LONG
    assert len(await said(ToolOutputTruncation(max_chars=100, tools=['lo*']), 'look', tools=[gives(LONG)])) <= 100


async def test_a_long_error_is_cut_too_and_stays_an_error() -> None:
    called = await call(ToolOutputTruncation(max_chars=200), 'look', tools=[gives(ToolError(LONG, details={'a': 1}))])
    assert called.error
    assert len(called.output) <= 200
    assert called.output.endswith(' end')
    short = await call(ToolOutputTruncation(max_chars=200), 'look', tools=[gives(ToolError('no such city'))])
    assert (short.error, short.output) == (True, 'no such city')


async def test_other_failures_pass() -> None:
    with pytest.raises(ValueError, match='begin'):
        await call(ToolOutputTruncation(max_chars=100), 'look', tools=[gives(ValueError(LONG))])


async def test_the_share_of_the_end_is_a_setting() -> None:
    for share, ends in ((0.0, False), (1.0, True)):
        layer = ToolOutputTruncation(max_chars=100, tail_share=share)
        short = await said(layer, 'look', tools=[gives(LONG)])
        assert (short.startswith('begin'), short.endswith(' end')) == (not ends, ends)


async def test_streams_are_cut_too() -> None:
    response = await both(
        lambda: world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}, random=Random(3)).ai,
        prompt='go',
        tools=[gives(LONG)],
        use=[ToolOutputTruncation(max_chars=1000)],
    )
    assert len(response.turns[0].tool_responses[0].tool_response.output) <= 1000


async def test_calls_at_once_are_cut_each_for_itself() -> None:
    async def look(letter: str) -> str:
        await asyncio.sleep(0)
        return letter * 5000

    app = world({'x/a': [[ToolRequest('look', {'letter': letter}, letter) for letter in 'abc'], 'done']})
    response = await app.ai.generate(prompt='go', use=[ToolOutputTruncation(max_chars=100)], tools=[look])
    outputs = [part.tool_response.output for part in response.turns[0].tool_responses]
    assert [(output[0], output[-1], len(output) <= 100) for output in outputs] == [(x, x, True) for x in 'abc']


# ── the whole as an artifact ────────────────────────────────────────────────────────────────────────────────────────


def talking(output: Any, **options: Any) -> tuple[Lamella, Any, CollectingSink]:
    sink = CollectingSink()
    ai = Lamella(model=ScriptedModel([ToolRequest('look', {}, 'r-1'), 'done'], repeat=True), sinks=[sink], **options)
    return ai, ai.session('s-1'), sink


async def cut_in(ai: Lamella, session: Any, output: Any, layer: Any) -> Any:
    response = await ai.generate(prompt='go', use=[layer], tools=[gives(output)], session=session)
    return response.turns[0].tool_responses[0].tool_response


@pytest.mark.parametrize('output', [LONG, {'rows': ['x' * 50] * 100}, ['x' * 50] * 100], ids=['text', 'object', 'list'])
async def test_the_whole_is_kept_and_the_model_told_where(output: Any) -> None:
    ai, session, sink = talking(output)
    answer = await cut_in(ai, session, output, ToolOutputTruncation(max_chars=400, artifacts=True))
    assert 'the whole is the artifact tool-output/look/r-1' in json.dumps(answer.output, ensure_ascii=False)
    assert answer.metadata['tool_output_truncation']['artifact'] == 'tool-output/look/r-1'
    assert sink.named('tool_output_truncation.cut')[0].facts['artifact'] == 'tool-output/look/r-1'
    kept = (await session.artifacts.load('tool-output/look/r-1')).text
    assert (kept if isinstance(output, str) else json.loads(kept)) == output


async def test_nothing_is_kept_of_what_is_not_cut() -> None:
    ai, session, _ = talking('short')
    await cut_in(ai, session, 'short', ToolOutputTruncation(max_chars=400, artifacts=True))
    assert await session.artifacts.list() == ()


async def test_artifacts_need_a_session_and_a_run_without_one_begins_nothing() -> None:
    done: list[str] = []

    def look() -> str:
        done.append('ran')
        return LONG

    with pytest.raises(LamellaError) as caught:
        await call(ToolOutputTruncation(max_chars=400, artifacts=True), 'look', tools=[look])
    assert caught.value.status == 'FAILED_PRECONDITION'
    assert 'use generate(session=…), or leave artifacts out' in caught.value.message
    assert done == []


async def test_an_output_that_is_too_large_to_be_kept_is_cut_all_the_same() -> None:
    output = 'x' * (17 << 20)
    ai, session, sink = talking(output)
    answer = await cut_in(ai, session, output, ToolOutputTruncation(max_chars=400, artifacts=True))
    assert len(answer.output) <= 400
    assert answer.metadata['tool_output_truncation']['artifact'] is None
    assert sink.named('store.away')[0].facts['by'] == 'tool_output_truncation'


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'max_chars: Field required'),
        ({'max_chars': 99}, 'greater than or equal to 100'),
        ({'max_chars': 1000.5}, 'max_chars'),
        ({'max_chars': 1000, 'tail_share': 1.5}, 'less than or equal to 1'),
        ({'max_chars': 1000, 'tools': 'look'}, "write a list of tool names, such as ['look']"),
        ({'max_chars': 1000, 'artifacts': 'yes'}, 'artifacts'),
        ({'max_char': 1000}, "did you mean 'max_chars'"),
    ],
)
def test_wrong_settings_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolOutputTruncation(**options)
    assert problem in str(caught.value)
