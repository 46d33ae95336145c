"""`Artifacts`: the files of a session as tools, and nothing of another session."""

from typing import Any

import pytest

from lamella import Lamella
from lamella.middleware import Artifacts
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, MediaPart, ToolRequest


class World:
    """An app whose model makes the calls that a test wants, in one session."""

    def __init__(self, **options: Any) -> None:
        self.layer = Artifacts(**options)
        self.sink = CollectingSink()
        self.ai = Lamella(model=ScriptedModel(['unused']), sinks=[self.sink])

    async def call(self, tool: str, session: str = 's', streamed: bool = False, **given: Any) -> Any:
        """What the tool answered, and whether as an error."""
        asked = {
            'model': ScriptedModel([ToolRequest(tool, given, 'c1'), 'done']),
            'session': session,
            'use': [self.layer],
        }
        if streamed:
            response = await self.ai.generate_stream(prompt='x', **asked).response
        else:
            response = await self.ai.generate(prompt='x', **asked)
        answer = response.turns[0].tool_responses[0].tool_response
        return answer.output, answer.is_error

    async def said(self, tool: str, **given: Any) -> Any:
        output, error = await self.call(tool, **given)
        assert not error, output
        return output

    async def refused(self, tool: str, **given: Any) -> str:
        output, error = await self.call(tool, **given)
        assert error, output
        return str(output)


@pytest.mark.parametrize('streamed', [False, True])
async def test_what_is_written_can_be_read_in_every_version(streamed: bool) -> None:
    world = World()
    for text in ('one', 'zwei ünï'):
        await world.call(
            'write_artifact', streamed=streamed, name='report.md', content=text, content_type='text/markdown'
        )
    assert await world.said('read_artifact', name='report.md') == 'zwei ünï'
    assert await world.said('read_artifact', name='report.md', version=1) == 'one'
    assert await world.said('list_artifacts') == [
        {'name': 'report.md', 'version': 2, 'content_type': 'text/markdown', 'bytes': 10}
    ]
    assert [event.facts['version'] for event in world.sink.named('artifacts.wrote')] == [1, 2]
    assert await world.said('delete_artifact', name='report.md') == {'deleted': 'report.md'}
    assert await world.said('list_artifacts') == []


async def test_another_session_has_artifacts_of_its_own() -> None:
    world = World()
    await world.said('write_artifact', name='a', content='x')
    assert await world.said('list_artifacts', session='other') == []
    assert 'a' in await world.refused('read_artifact', session='other', name='a')


async def test_what_is_not_there_is_an_error_for_the_model() -> None:
    world = World()
    await world.said('write_artifact', name='report.md', content='x')
    assert "did you mean 'report.md'" in await world.refused('read_artifact', name='reprt.md')
    assert 'no version 7' in await world.refused('read_artifact', name='report.md', version=7)
    assert 'reprt.md' in await world.refused('delete_artifact', name='reprt.md')


async def test_readonly_has_no_tool_that_writes() -> None:
    world = World(readonly=True, tool_name_prefix='kept_')
    await world.ai.session('s').artifacts.save('a.txt', 'text')
    assert await world.said('kept_read_artifact', name='a.txt') == 'text'
    assert 'unknown tool' in await world.refused('kept_write_artifact', name='a', content='x')
    assert 'unknown tool' in await world.refused('kept_delete_artifact', name='a.txt')


async def test_images_are_media_and_other_bytes_are_refused() -> None:
    world = World()
    kept = world.ai.session('s').artifacts
    await kept.save('a.png', b'\x89PNG', 'image/png')
    await kept.save('b.bin', b'\xff\xfe', 'application/octet-stream')
    image = await world.said('read_artifact', name='a.png')
    assert image == MediaPart(data=b'\x89PNG', content_type='image/png', name='a.png')
    assert 'is no text' in await world.refused('read_artifact', name='b.bin')


async def test_sizes_have_limits() -> None:
    world = World(max_read_bytes=5, max_write_bytes=8)
    assert 'more than 8' in await world.refused('write_artifact', name='a', content='x' * 9)
    assert 'more than 8' in await world.refused('write_artifact', name='a', content='ü' * 5)
    await world.said('write_artifact', name='a', content='x' * 8)
    assert 'more than 5' in await world.refused('read_artifact', name='a')


@pytest.mark.parametrize(
    'given',
    [
        {'name': ''},
        {'name': 'x' * 300},
        {'content_type': 'text'},
        {'content_type': 'a/b\r\nx: y'},
        {'content': '\ud800'},
    ],
)
async def test_hostile_input_is_an_error_for_the_model(given: dict[str, Any]) -> None:
    world = World()
    await world.refused('write_artifact', **{'name': 'a', 'content': 'x', **given})
    assert await world.said('list_artifacts') == []


async def test_without_a_session_the_error_says_what_to_do() -> None:
    ai = Lamella(model=ScriptedModel([ToolRequest('list_artifacts', {}, 'c1'), 'done']))
    with pytest.raises(ConfigError, match=r'Artifacts needs a session: use generate\(session='):
        await ai.generate(prompt='x', use=[Artifacts()])


@pytest.mark.parametrize('options', [{'readonly': 'yes'}, {'tool_name_prefix': 'a b'}, {'max_read_bytes': -1}])
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Artifacts(**options)
