"""`MCP`: real servers over both transports; what hangs, dies and changes; and nothing left behind."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lamella import Lamella
from lamella.middleware import MCP, ToolApproval
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, LamellaError, MediaPart, TextDelta, ToolRequest
from tests.engine.kit import no_leaks
from tests.middleware.tools.mcp_servers import COMMAND, over_http

TOOLS = ['add', 'die', 'draw', 'environment', 'fail', 'hang', 'learn']


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    with over_http() as address:
        yield address


@pytest.fixture(params=['program', 'http'])
def layer(request: pytest.FixtureRequest) -> Any:
    """Makes the layer, for either kind of server."""
    if request.param == 'program':
        return lambda **options: MCP(command=COMMAND, **options)
    address = request.getfixturevalue('url')
    return lambda **options: MCP(url=address, **options)


async def call(
    use: Any, tool: str, streamed: bool = False, ai: Lamella | None = None, **given: Any
) -> tuple[Any, bool]:
    """What the tool answered, and whether as an error."""
    model = ScriptedModel([ToolRequest(tool, given, 'c1'), 'done'])
    layers = use if isinstance(use, list) else [use]
    app = ai or Lamella()
    if streamed:
        response = await app.generate_stream(model=model, prompt='x', use=layers).response
    else:
        response = await app.generate(model=model, prompt='x', use=layers)
    answer = response.turns[0].tool_responses[0].tool_response
    return answer.output, answer.is_error


async def offered(use: Any) -> list[str]:
    model = ScriptedModel(['hi'])
    await Lamella(model=model).generate(prompt='x', use=[use])
    return sorted(tool.name for tool in model.requests[0].tools)


def children() -> set[int]:
    """The processes that this one has started, `ps` aside."""
    command = ['ps', '-o', 'pid=,comm=', '--ppid', str(os.getpid())]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return {int(line.split()[0]) for line in listed if line.split()[1] != 'ps'}


@pytest.mark.parametrize('streamed', [False, True])
async def test_the_tools_of_a_server_are_tools_of_the_run(layer: Any, streamed: bool) -> None:
    assert await call(layer(), 'add', streamed, a=1, b=2) == (3, False)


async def test_the_model_is_told_of_them_with_their_schemas(url: str) -> None:
    model = ScriptedModel(['hi'])
    await Lamella(model=model).generate(prompt='x', use=[MCP(url=url)])
    tools = {tool.name: tool for tool in model.requests[0].tools}
    assert set(TOOLS) <= {*tools, 'fail'}
    assert tools['add'].description == 'Adds two numbers.'
    assert tools['add'].input_schema['required'] == ['a', 'b']


async def test_only_the_wanted_tools_under_names_of_their_own(url: str) -> None:
    assert await offered(MCP(url=url, tools=['a*', 'draw'], tool_name_prefix='demo_')) == ['demo_add', 'demo_draw']
    assert await call(MCP(url=url, tool_name_prefix='demo.'), 'demo.add', a=2, b=3) == (5, False)


async def test_images_are_media(url: str) -> None:
    image, _ = await call(MCP(url=url), 'draw')
    assert image == MediaPart(data=b'\x89PNG', content_type='image/png')


async def test_what_a_server_calls_an_error_is_one_that_the_model_reads() -> None:
    async with MCP(command=COMMAND) as server:
        failed, is_error = await call(server, 'fail')
        assert (is_error, 'fail' in failed) == (True, True)
        wrong, is_error = await call(server, 'add', a='x')
        assert (is_error, 'validation error' in wrong) == (True, True)


async def test_a_tool_that_hangs_is_an_error_in_time_and_the_run_goes_on(layer: Any) -> None:
    output, is_error = await call(layer(timeout_s=1.5), 'hang')
    assert is_error
    assert 'hang did not answer within timeout_s=1.5; it may still be at work' in output


async def test_a_server_that_dies_in_the_middle_is_said_to_have_perhaps_acted(tmp_path: Any) -> None:
    log = tmp_path / 'log'
    output, is_error = await call(MCP(command=(*COMMAND, str(log))), 'die')
    assert is_error
    assert 'the server ended while die was at work; it may or may not have done it' in output
    assert log.read_text() == 'died'


async def test_a_kept_connection_is_opened_anew_when_its_server_died() -> None:
    before = children()
    async with MCP(command=COMMAND) as server:
        started = children() - before
        assert await call(server, 'add', a=1, b=1) == (2, False)
        assert children() - before == started
        await call(server, 'die')
        assert await call(server, 'add', a=2, b=2) == (4, False)
        assert children() - before != started
    assert children() <= before


async def test_after_its_death_the_same_run_is_told_that_nothing_was_called() -> None:
    model = ScriptedModel([ToolRequest('die', {}, 'c1'), ToolRequest('add', {'a': 1, 'b': 1}, 'c2'), 'done'])
    response = await Lamella(model=model).generate(prompt='x', use=[MCP(command=COMMAND)])
    second = response.turns[1].tool_responses[0].tool_response
    assert second.is_error
    assert second.output.endswith('the server is not connected; add was not called')


async def test_each_run_sees_the_tools_that_there_are_now() -> None:
    async with MCP(command=COMMAND) as server:
        assert await offered(server) == TOOLS
        assert await call(server, 'learn') == ('learned', False)
        assert await offered(server) == sorted({*TOOLS, 'multiply'} - {'fail'})
        assert await call(server, 'multiply', a=2, b=3) == (6, False)


async def test_several_runs_and_calls_share_a_kept_connection() -> None:
    before = children()
    async with MCP(command=COMMAND) as server:
        answers = await asyncio.gather(*[call(server, 'add', a=n, b=n) for n in range(20)])
        assert answers == [(2 * n, False) for n in range(20)]
        assert len(children() - before) == 1


async def test_a_program_gets_none_of_our_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MY_SECRET_KEY', 'hunter2')
    async with MCP(command=COMMAND, env={'GIVEN': 'yes'}) as server:
        assert await call(server, 'environment', name='MY_SECRET_KEY') == ('not set', False)
        assert await call(server, 'environment', name='GIVEN') == ('yes', False)
        assert (await call(server, 'environment', name='PATH'))[0] != 'not set'


async def test_approval_holds_for_its_tools_like_for_any_other(url: str) -> None:
    model = ScriptedModel([ToolRequest('add', {'a': 1, 'b': 1}, 'c1')])
    response = await Lamella(model=model).generate(prompt='x', use=[ToolApproval(), MCP(url=url)])
    assert [part.tool_request.name for part in response.interrupts] == ['add']


async def test_two_tools_of_one_name_are_an_error_that_says_where_from(url: str) -> None:
    def add(a: int) -> int:
        return a

    with pytest.raises(LamellaError, match="two tools are named 'add'"):
        await Lamella(model=ScriptedModel(['x'])).generate(prompt='x', tools=[add], use=[MCP(url=url)])


# ── servers that are not there ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'command': ['no-such-program-anywhere']}, 'no-such-program-anywhere'),
        ({'command': [*COMMAND[:1], '-c', 'raise SystemExit(3)']}, 'MCP server'),
        ({'url': 'http://127.0.0.1:9/mcp'}, 'MCP server 127.0.0.1'),
    ],
)
@pytest.mark.parametrize('streamed', [False, True])
async def test_a_server_that_cannot_be_reached_fails_the_run_before_the_model(
    options: dict[str, Any], problem: str, streamed: bool
) -> None:
    model, sink = ScriptedModel(['never']), CollectingSink()
    ai = Lamella(model=model, sinks=[sink])
    use = [MCP(**options)]
    call = ai.generate_stream(prompt='x', use=use).response if streamed else ai.generate(prompt='x', use=use)
    with pytest.raises(LamellaError, match=problem) as caught:
        await call
    assert caught.value.status == 'UNAVAILABLE'
    assert model.requests == []
    assert [event.facts['error'].status for event in sink.named('mcp.failed')] == ['UNAVAILABLE']


async def test_a_server_that_never_speaks_fails_in_time_and_is_ended() -> None:
    before = children()
    for kind in ('silent', 'noise'):
        with pytest.raises(LamellaError, match='connect_timeout_s=1') as caught:
            await Lamella(model=ScriptedModel(['x'])).generate(
                prompt='x', use=[MCP(command=(*COMMAND, kind), connect_timeout_s=1.0)]
            )
        assert caught.value.status == 'DEADLINE_EXCEEDED'
    assert children() <= before


# ── nothing is left behind ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_is_cancelled_or_left_ends_its_server() -> None:
    before = children()
    async with no_leaks():
        await _cancelled_and_left()
    assert children() <= before


async def _cancelled_and_left() -> None:
    for event in ('run.start', 'tool.start'):
        reached = asyncio.Event()
        ai = Lamella(sinks=[lambda told, event=event, reached=reached: reached.set() if told.name == event else None])
        task = asyncio.create_task(call(MCP(command=COMMAND), 'hang', ai=ai))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    model = ScriptedModel([[TextDelta('a'), TextDelta('b')]])
    async with Lamella(model=model).generate_stream(prompt='x', use=[MCP(command=COMMAND)]) as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'give command= or url=, one of them'),
        ({'command': 'x', 'url': 'http://x/mcp'}, 'give command= or url=, one of them'),
        ({'command': []}, 'command: .*give a program with its arguments'),
        ({'command': 3}, 'command'),
        ({'url': 'ftp://x'}, 'give an address such as https://example.com/mcp'),
        ({'url': 'http://x/mcp', 'env': {'A': 'b'}}, 'env= and cwd= belong to command='),
        ({'command': 'x', 'headers': {'A': 'b'}}, 'headers= belong to url='),
        ({'command': 'x', 'tools': 'a'}, 'tools: .*write a list'),
        ({'command': 'x', 'timeout_s': 0}, 'timeout_s'),
        ({'command': 'x', 'tool_name_prefix': 'a b'}, 'tool_name_prefix'),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        MCP(**options)


def test_without_the_client_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name='mcp.client')

    monkeypatch.setattr('importlib.import_module', absent)
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[mcp\]'"):
        MCP(command='x')
