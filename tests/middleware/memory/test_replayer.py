"""`Replayer`: byte for byte what was recorded, and a precise word where a run is another one."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lamella import Lamella
from lamella.middleware import (
    BaseMiddleware,
    CostTracking,
    Fallback,
    Hedge,
    PromptInjectionScreen,
    Recorder,
    Recording,
    Replayer,
    Retry,
    Timeout,
    ToolApproval,
    wrap_language_model,
)
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    Finished,
    GenerateResponse,
    Interrupt,
    LamellaError,
    MediaPart,
    ModelRequest,
    Raw,
    ReasoningDelta,
    Rejected,
    ResponseStarted,
    Restarted,
    TextDelta,
    ToolError,
    ToolRequest,
    ToolRequested,
    Usage,
)
from tests.middleware.kit import world
from tests.middleware.test_modes import fresh, scripts, stacks


def never(*_: Any) -> Any:
    raise AssertionError('a model was asked or a tool was run')


class Unasked(ScriptedModel):
    """Fails the test when it is asked."""

    def __init__(self, name: str = 'scripted/model') -> None:
        super().__init__([never], name=name, repeat=True)


def look(city: str) -> str:
    """Look out of the window."""
    return f'sun in {city}'


def dead(tool: Callable[..., Any]) -> Callable[..., Any]:
    """A tool of the same name and input that must not be run."""

    def run(city: str) -> str:
        return str(never())

    run.__name__, run.__doc__ = tool.__name__, tool.__doc__
    return run


def bytes_of(value: Any) -> bytes:
    return msgspec.json.encode(value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'runs.jsonl'


STREAM = [
    ResponseStarted('m-1', 'id-1', {'s': 1}),
    ReasoningDelta('hm', 0, 'signed'),
    TextDelta('one ', 1),
    Raw({'ping': 1.5}),
    TextDelta('two', 1, {'cited': [1]}),
    ToolRequested(ToolRequest('look', {'city': 'Rome'}), 2),
    Finished('tool_calls', Usage(3, 4, 7), metadata={'e': 1}),
]


async def parts_of(ai: Lamella, **options: Any) -> tuple[list[Any], Any]:
    stream = ai.generate_stream(**options)
    parts = [part async for part in stream]
    return parts, await stream.response


async def gathered(stream: Any, parts: list[Any]) -> None:
    async for part in stream:
        parts.append(part)


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_run_with_tools_is_replayed_byte_for_byte(file: Path, streamed: bool) -> None:
    asked: dict[str, Any] = {'prompt': 'weather?', 'max_turns': 5}
    layers = [CostTracking(input_per_mtok=1, output_per_mtok=2), Retry(), PromptInjectionScreen(threshold=0)]
    script = [STREAM, LamellaError('UNAVAILABLE', 'down'), [TextDelta('sunny'), Finished('stop', Usage(10, 5, 15))]]
    ai = Lamella(model=ScriptedModel(script), clock=FakeClock())
    recorded = await parts_of(ai, **asked, tools=[look], use=[*layers, Recorder(file)])
    again = Lamella(model=Unasked())
    use = [*layers, Replayer(file)]
    if streamed:
        assert bytes_of(await parts_of(again, **asked, tools=[dead(look)], use=use)) == bytes_of(recorded)
    else:
        replayed = await again.generate(**asked, tools=[dead(look)], use=use)
        assert bytes_of(replayed) == bytes_of(recorded[1])


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_whole_recording_answers_both_modes(file: Path, streamed: bool) -> None:
    ai = Lamella(model=ScriptedModel([ToolRequest('look', {'city': 'Rome'}), 'sunny']))
    recorded = await ai.generate(prompt='weather?', tools=[look], use=[Recorder(file)])
    asked: dict[str, Any] = {'prompt': 'weather?', 'tools': [dead(look)], 'use': [Replayer(file)]}
    again = Lamella(model=Unasked())
    replayed = (await parts_of(again, **asked))[1] if streamed else await again.generate(**asked)
    assert bytes_of(replayed) == bytes_of(recorded)


@pytest.mark.parametrize(
    'error',
    [
        LamellaError('RESOURCE_EXHAUSTED', 'slow down', details={'http_status': 429, 'ids': [1]}, retry_after_s=7.5),
        Rejected('no more', by='budget', retry_after_s=1),
        ToolError('try another city'),
        ConfigError('wrong'),
    ],
)
async def test_an_error_is_raised_again_as_it_was(file: Path, error: LamellaError) -> None:
    async def caught(model: ScriptedModel, layer: Any) -> LamellaError:
        with pytest.raises(LamellaError) as raised:
            await Lamella(model=model, clock=FakeClock()).generate(prompt='hi', use=[layer])
        return raised.value

    one = await caught(ScriptedModel([error]), Recorder(file))
    two = await caught(Unasked(), Replayer(file))
    assert type(two) is type(one)
    assert two is not one
    for field in ('status', 'message', 'details', 'retry_after_s', 'partial', 'by', 'args'):
        assert getattr(two, field, None) == getattr(one, field, None)
    assert [attempt.status for attempt in two.attempts] == [attempt.status for attempt in one.attempts]


async def test_a_stream_that_broke_off_breaks_off_at_the_same_part(file: Path) -> None:
    async def read(model: ScriptedModel, layer: Any) -> tuple[list[Any], LamellaError]:
        parts: list[Any] = []
        stream = Lamella(model=model).generate_stream(prompt='hi', use=[layer])
        with pytest.raises(LamellaError) as raised:
            await gathered(stream, parts)
        return parts, raised.value

    script = [[TextDelta('one '), TextDelta('two '), LamellaError('UNAVAILABLE', 'cut')]]
    one = await read(ScriptedModel(script), Recorder(file))
    two = await read(Unasked(), Replayer(file))
    assert two[0] == one[0]
    assert (two[1].status, two[1].message, two[1].partial) == (one[1].status, one[1].message, one[1].partial)
    assert two[1].partial is not None


async def test_what_tools_raise_and_the_media_they_return_come_back(file: Path) -> None:
    def picture(city: str) -> Any:
        """Draw."""
        return MediaPart(data=b'\x89PNG\x00', content_type='image/png')

    def fail(city: str) -> str:
        """Fail."""
        raise ToolError(f'no {city}')

    def crash(city: str) -> str:
        """Crash."""
        raise KeyError(city)

    def ask(city: str) -> str:
        """Ask."""
        raise Interrupt('sure?', {'city': city})

    calls = [ToolRequest(name, {'city': 'Rome'}, name) for name in ('picture', 'fail')]
    tools = [picture, fail, crash, ask]
    for script in ([calls, 'ok'], [ToolRequest('ask', {'city': 'Rome'}, 'a')]):
        recorded = await Lamella(model=ScriptedModel(script)).generate(prompt='go', tools=tools, use=[Recorder(file)])
        replayed = await Lamella(model=Unasked()).generate(
            prompt='go', tools=[dead(tool) for tool in tools], use=[Replayer(file)]
        )
        assert bytes_of(replayed) == bytes_of(recorded)
        file.unlink()
    with pytest.raises(KeyError):
        await Lamella(model=ScriptedModel([ToolRequest('crash', {'city': 'x'})])).generate(
            prompt='go', tools=tools, use=[Recorder(file)]
        )
    with pytest.raises(KeyError, match='x'):
        await Lamella(model=Unasked()).generate(prompt='go', tools=[dead(tool) for tool in tools], use=[Replayer(file)])


async def test_tools_at_the_same_time_are_matched_by_their_input(file: Path) -> None:
    gates = {city: asyncio.Event() for city in 'abc'}

    async def visit(city: str) -> str:
        """Visit."""
        if city != 'c':
            await gates[chr(ord(city) + 1)].wait()  # they end in the reverse order
        gates[city].set()
        return city.upper()

    calls = [ToolRequest('visit', {'city': city}, city) for city in 'abc']
    calls += [ToolRequest('visit', {'city': 'c'}, 'again')]
    recorded = await Lamella(model=ScriptedModel([calls, 'ok'])).generate(
        prompt='go', tools=[visit], use=[Recorder(file)]
    )
    replayed = await Lamella(model=Unasked()).generate(prompt='go', tools=[dead(visit)], use=[Replayer(file)])
    assert bytes_of(replayed) == bytes_of(recorded)


async def test_the_same_request_twice_is_answered_in_order(file: Path) -> None:
    class Twice(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            answers = [await next_fn(params, ctx), await next_fn(params, ctx)]
            return answers[0].replace(metadata={'said': [answer.text for answer in answers]})

    model = ScriptedModel(['first', 'second'])
    await Lamella(model=model).generate(prompt='hi', use=[Twice(), Recorder(file)])
    replayed = await Lamella(model=Unasked()).generate(prompt='hi', use=[Twice(), Replayer(file)])
    assert replayed.metadata['said'] == ['first', 'second']


async def test_retries_and_their_jitter_are_the_same_and_nobody_waits(file: Path) -> None:
    down = LamellaError('UNAVAILABLE', 'down')
    retry = Retry(initial_delay_ms=60_000, max_delay_ms=600_000)
    clock = FakeClock()
    ai = Lamella(model=ScriptedModel([down, down, 'up']), clock=clock)
    recorded = await ai.generate(prompt='hi', use=[retry, Recorder(file)])
    assert sum(clock.slept) > 0
    replayed = await Lamella(model=Unasked()).generate(prompt='hi', use=[retry, Replayer(file)])
    assert replayed.metadata['retry'] == recorded.metadata['retry']
    assert recorded.metadata['retry']['attempts'] == 3


async def test_a_fallback_outside_is_replayed_model_by_model(file: Path) -> None:
    def app(a: ScriptedModel, b: ScriptedModel) -> Lamella:
        return Lamella(model=a), Fallback(models=[b])

    ai, layer = app(ScriptedModel([LamellaError('UNAVAILABLE', 'down')], name='v/a'), ScriptedModel(['b'], name='v/b'))
    recorded = await ai.generate(prompt='hi', use=[layer, Recorder(file)])
    ai, layer = app(Unasked('v/a'), Unasked('v/b'))
    assert bytes_of(await ai.generate(prompt='hi', use=[layer, Replayer(file)])) == bytes_of(recorded)


async def test_layers_inside_of_the_recorder_do_the_same_again(file: Path) -> None:
    ai = Lamella(model=ScriptedModel([LamellaError('UNAVAILABLE', 'down'), 'up']), clock=FakeClock())
    recorded = await ai.generate(prompt='hi', use=[Recorder(file), Retry()])
    assert len(Recording.read(file).runs[0].calls) == 2
    replayed = await Lamella(model=Unasked()).generate(prompt='hi', use=[Replayer(file), Retry()])
    assert bytes_of(replayed) == bytes_of(recorded)


async def test_what_an_outer_layer_notes_beside_a_tools_answer_is_no_departure(file: Path) -> None:
    class Notes(BaseMiddleware):
        def __init__(self, note: str) -> None:
            super().__init__()
            self.note = note

        async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            response = await next_fn(params, ctx)
            return response.replace(metadata={'sandbox': self.note})

    def add(a: int, b: int) -> int:
        return a + b

    model = ScriptedModel([ToolRequest(name='add', input={'a': 1, 'b': 2}), 'three'])
    await Lamella(model=model).generate(prompt='1 + 2', tools=[add], use=[Notes('started'), Recorder(file)])
    replayed = await Lamella(model=Unasked()).generate(prompt='1 + 2', tools=[add], use=[Notes('idle'), Replayer(file)])
    assert replayed.text == 'three'


async def test_a_hedge_and_a_timeout_see_the_recorded_time(file: Path) -> None:
    clock = FakeClock()

    async def slow(request: ModelRequest) -> str:
        await clock.sleep(5)
        return 'slow'

    async def quick(request: ModelRequest) -> str:
        await clock.sleep(1)
        return 'quick'

    ai = Lamella(model=ScriptedModel([slow, quick]), clock=clock)
    recorded = await ai.generate(prompt='hi', use=[Hedge(delay_s=2), Recorder(file)])
    assert recorded.text == 'quick'
    sink = CollectingSink()
    again = Lamella(model=Unasked(), sinks=[sink])
    replayed = await again.generate(prompt='hi', use=[Hedge(delay_s=2), Replayer(file)])
    assert replayed.text == 'quick'
    assert sink.named('replayer.departed') == []
    file.unlink()

    for model, layer in ((ScriptedModel([slow]), Recorder(file)), (Unasked(), None)):
        ai = Lamella(model=model, clock=clock if layer else FakeClock())
        with pytest.raises(LamellaError) as caught:
            await ai.generate(prompt='hi', use=[Timeout(total_s=3), layer or Replayer(file)])
        assert caught.value.status == 'DEADLINE_EXCEEDED'


async def test_the_wall_clock_says_what_it_said(file: Path) -> None:
    class Day(BaseMiddleware[Any]):
        async def transform_params(self, params: Any, ctx: Any) -> Any:
            config = params.request.config.replace(seed=int(ctx.clock.time() / 86_400))
            return params.replace(request=params.request.replace(config=config))

    await Lamella(model=ScriptedModel(['x']), clock=FakeClock(wall=86_400.0 * 1000)).generate(
        prompt='hi', use=[Day(), Recorder(file)]
    )
    assert (await Lamella(model=Unasked()).generate(prompt='hi', use=[Day(), Replayer(file)])).text == 'x'


async def test_runs_at_once_find_each_their_own(file: Path) -> None:
    def answer(request: ModelRequest) -> str:
        return f'to {request.messages[-1].text}'

    ai, layer = Lamella(model=ScriptedModel([answer], repeat=True)), Recorder(file)
    await asyncio.gather(*(ai.generate(prompt=f'p{n}', use=[layer]) for n in range(20)))
    again, replayer = Lamella(model=Unasked()), Replayer(file)
    answers = await asyncio.gather(*(again.generate(prompt=f'p{n}', use=[replayer]) for n in reversed(range(20))))
    assert [answer.text for answer in answers] == [f'to p{n}' for n in reversed(range(20))]
    with pytest.raises(LamellaError, match='has no run left'):
        await again.generate(prompt='p1', use=[replayer])


async def test_one_run_can_be_chosen(file: Path) -> None:
    ai = Lamella(model=ScriptedModel(['a', 'b']))
    for _ in range(2):
        await ai.generate(prompt='hi', use=[Recorder(file)])
    second = Recording.read(file).runs[1].id
    again = Lamella(model=Unasked())
    assert (await again.generate(prompt='hi', use=[Replayer(file, run=second)])).text == 'b'
    assert (await again.generate(prompt='hi', use=[Replayer(Recording.read(file))])).text == 'a'
    with pytest.raises(ConfigError, match="has no run 'nope'"):
        Replayer(file, run='nope')


async def record(file: Path, *script: Any, **options: Any) -> None:
    script = script or (ToolRequest('look', {'city': 'Rome'}, 'c1'), 'sunny')
    await Lamella(model=ScriptedModel(script)).generate(
        **{'prompt': 'weather?', 'tools': [look], 'use': [Recorder(file)], **options}
    )


async def departure(file: Path, **options: Any) -> LamellaError:
    asked = {'prompt': 'weather?', 'tools': [dead(look)], 'use': [Replayer(file)], **options}
    model = asked.pop('model', None) or Unasked()
    with pytest.raises(LamellaError) as caught:
        await Lamella(model=model).generate(**asked)
    assert caught.value.status == 'FAILED_PRECONDITION'
    return caught.value


@pytest.mark.parametrize(
    ('options', 'field', 'was', 'now'),
    [
        ({'prompt': 'whether?'}, 'messages[0].content[0].text', '"weather?"', '"whether?"'),
        ({'system': 'Be brief.'}, 'messages[0].role', '"user"', '"system"'),
        ({'config': {'temperature': 0.5}}, 'config', 'nothing', '{"$": "GenerationConfig", "temperature": 0.5}'),
        ({'tools': []}, 'tools', '[{"$": "ToolDefinition"', 'nothing'),
        ({'model': Unasked('other/one')}, 'model', '"scripted/model"', '"other/one"'),
    ],
)
async def test_a_departure_names_the_field_and_both_values(
    file: Path, options: dict[str, Any], field: str, was: str, now: str
) -> None:
    await record(file)
    error = await departure(file, **options)
    facts = error.details['replayer']
    assert (facts['kind'], facts['call'], facts['turn'], facts['field']) == ('request', 1, 1, field)
    assert facts['recorded'].startswith(was)
    assert facts['now'].startswith(now)
    assert f'{field} was {facts["recorded"]} and is {facts["now"]}' in error.message
    assert f'{file}, line 2' in error.message


async def test_a_departure_in_a_later_turn_names_the_call_and_the_turn(file: Path) -> None:
    await record(file)
    lines = file.read_text().splitlines(keepends=True)
    assert 'sun in Rome' in lines[4]
    lines[4] = lines[4].replace('sun in Rome', 'rain in Rome')
    file.write_text(''.join(lines))
    error = await departure(file)
    facts = error.details['replayer']
    assert (facts['call'], facts['turn'], facts['line']) == (3, 2, 6)
    assert facts['field'] == 'messages[2].content[0].tool_response.output'
    assert (facts['recorded'], facts['now']) == ('"sun in Rome"', '"rain in Rome"')


async def test_a_tool_with_another_input_is_a_departure(file: Path) -> None:
    await record(file)
    text = file.read_text().splitlines(keepends=True)
    text[3] = text[3].replace('Rome', 'Oslo')
    file.write_text(''.join(text))
    error = await departure(file)
    assert 'call 2 (turn 1, tool look) departs from the recorded call 2 (turn 1, tool look): input.city was "Oslo"' in (
        error.message
    )


async def test_a_run_that_asks_for_more_or_for_less_is_a_departure(file: Path) -> None:
    await record(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(''.join(lines[:5]))
    error = await departure(file)
    assert 'call 3 (turn 2, model scripted/model) is not in the recording, which breaks off here' in error.message
    file.write_text(''.join(lines))
    error = await departure(file, max_turns=1)
    assert 'the recording has 1 more: call 3 (turn 2, model scripted/model)' in error.message
    assert error.details['replayer']['kind'] == 'unused'


async def test_a_call_that_was_under_way_when_the_recorder_died_is_told(file: Path) -> None:
    await record(file)
    file.write_text(''.join(file.read_text().splitlines(keepends=True)[:4]))
    error = await departure(file)
    assert 'call 2 (turn 1, tool look) was under way when the recording ended' in error.message


async def test_no_layer_hides_a_departure(file: Path) -> None:
    await record(file)
    error = await departure(
        file,
        prompt='other',
        use=[Fallback(models=[ScriptedModel(['saved'], name='v/b')], statuses=['FAILED_PRECONDITION']), Replayer(file)],
    )
    assert error.details['replayer']['field'] == 'messages[0].content[0].text'


async def test_unless_strict_the_model_and_the_tool_are_asked_and_it_is_told(file: Path) -> None:
    await record(file)
    sink = CollectingSink()
    model = ScriptedModel([ToolRequest('look', {'city': 'Oslo'}, 'c1'), 'rain'])
    response = await Lamella(model=model, sinks=[sink]).generate(
        prompt='changed', tools=[look], use=[Replayer(file, strict=False)]
    )
    assert response.text == 'rain'
    assert len(model.requests) == 2
    told = [(event.facts['kind'], event.facts['call']) for event in sink.named('replayer.departed')]
    assert told == [('request', 1), ('request', 2), ('request', 3)]
    sink.events.clear()
    response = await Lamella(model=ScriptedModel(['live']), sinks=[sink]).generate(
        prompt='weather?', tools=[dead(look)], max_turns=1, use=[Replayer(file, strict=False)]
    )
    assert [event.facts['kind'] for event in sink.named('replayer.departed')] == ['unused']


async def test_a_stream_that_was_left_ends_where_it_was_left(file: Path) -> None:
    ai = Lamella(model=ScriptedModel([[TextDelta('one '), TextDelta('two '), TextDelta('three')]]))
    async with ai.generate_stream(prompt='hi', use=[Recorder(file)]) as stream:
        async for part in stream:
            if part == TextDelta('two '):
                break
    parts: list[Any] = []
    stream = Lamella(model=Unasked()).generate_stream(prompt='hi', use=[Replayer(file)])
    with pytest.raises(LamellaError, match='was left by its caller'):
        await gathered(stream, parts)
    assert [part.text for part in parts if type(part) is TextDelta] == ['one ', 'two ']


async def test_a_replay_is_not_recorded_again(file: Path) -> None:
    await record(file)
    before = file.read_bytes()
    ai = Lamella(model=Unasked(), use=[Recorder(file)])
    await ai.generate(prompt='weather?', tools=[dead(look)], use=[Replayer(file)])
    assert file.read_bytes() == before


async def test_an_app_with_its_own_chance_keeps_it(file: Path) -> None:
    def app(model: ScriptedModel) -> Lamella:
        return Lamella(model=model, random=Random(3))

    script = [ToolRequest('look', {'city': 'Rome'}), 'sunny']
    asked: dict[str, Any] = {'prompt': 'weather?'}
    recorded = await app(ScriptedModel(script)).generate(**asked, tools=[look], use=[Recorder(file)])
    replayed = await app(Unasked()).generate(**asked, tools=[dead(look)], use=[Replayer(file)])
    assert bytes_of(replayed) == bytes_of(recorded)
    assert Recording.read(file).runs[0].seed is None


async def test_approvals_are_asked_for_again(file: Path) -> None:
    def run(ai: Lamella, layer: Any, tool: Any) -> Any:
        return ai.generate(prompt='weather?', tools=[tool], use=[ToolApproval(), layer])

    recorded: GenerateResponse = await run(
        Lamella(model=ScriptedModel([ToolRequest('look', {'city': 'Rome'}, 'c')])), Recorder(file), look
    )
    replayed = await run(Lamella(model=Unasked()), Replayer(file), dead(look))
    assert bytes_of(replayed) == bytes_of(recorded)
    assert replayed.stop_reason == 'interrupted'


async def test_a_replayer_that_is_fixed_on_a_model_answers_for_it(file: Path) -> None:
    model = wrap_language_model(model=ScriptedModel(['one']), middleware=[Recorder(file)])
    await Lamella(model=model).generate(prompt='hi')
    again = wrap_language_model(model=Unasked(), middleware=[Replayer(file)])
    assert (await Lamella(model=again).generate(prompt='hi')).text == 'one'


async def test_a_restart_that_was_shown_is_shown_again(file: Path) -> None:
    script = [[TextDelta('one '), LamellaError('UNAVAILABLE', 'cut')], [TextDelta('two'), Finished()]]
    retry = Retry(on_partial='restart')
    ai = Lamella(model=ScriptedModel(script), clock=FakeClock())
    recorded = await parts_of(ai, prompt='hi', use=[retry, Recorder(file)])
    replayed = await parts_of(Lamella(model=Unasked()), prompt='hi', use=[retry, Replayer(file)])
    assert any(type(part) is Restarted for part in recorded[0])
    assert bytes_of(replayed) == bytes_of(recorded)


async def test_cancelling_a_replay_leaves_nothing(file: Path) -> None:
    clock = FakeClock()

    async def slow(request: ModelRequest) -> str:
        await clock.sleep(1000)
        return 'slow'

    await Lamella(model=ScriptedModel([slow]), clock=clock).generate(prompt='hi', use=[Recorder(file)])
    before = asyncio.all_tasks()
    task = asyncio.create_task(Lamella(model=Unasked()).generate(prompt='hi', use=[Replayer(file)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ({'recording': 5}, 'give the path'),
        ({'recording': '/no/such'}, 'cannot be read'),
        ({}, 'recording: Field required'),
    ],
)
def test_a_wrong_recording_is_found_when_it_is_built(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Replayer(**given)


KILLED = """
import asyncio, os, signal, sys
from lamella import Lamella
from lamella.middleware import Recorder
from lamella.testing import ScriptedModel
from lamella.types import ToolRequest

def look(city: str) -> str:
    "Look out of the window."
    return f'sun in {city}'

def die(request):
    os.kill(os.getpid(), signal.SIGKILL)

ai = Lamella(model=ScriptedModel([ToolRequest('look', {'city': 'Rome'}, 'c1'), die]))
ai.run_main(ai.generate(prompt='weather?', tools=[look], use=[Recorder(sys.argv[1])]))
"""


async def test_what_a_killed_process_recorded_is_replayed_up_to_there(file: Path) -> None:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, '-c', KILLED, str(file)], check=False)
    assert done.returncode == -9
    error = await departure(file)
    assert 'call 3 (turn 2, model scripted/model) was under way when the recording ended' in error.message
    response = await Lamella(model=ScriptedModel(['live'])).generate(
        prompt='weather?', tools=[dead(look)], use=[Replayer(file, strict=False)]
    )
    assert response.text == 'live'


def plainly(whole: Any, *, same_mode: bool) -> Any:
    """A response, or an error. What had arrived is told differently by the two modes."""
    if isinstance(whole, LamellaError):
        tried = [(attempt.model, attempt.status, attempt.message) for attempt in whole.attempts]
        partial = whole.partial if same_mode else None
        return type(whole), whole.status, whole.message, whole.retry_after_s, whole.details, tried, partial
    return whole


@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(scripts, scripts, stacks, st.booleans(), st.booleans())
def test_any_run_through_any_layers_is_replayed_as_it_was(
    a: list[Any], b: list[Any], use: list[Any], recorded_in_parts: bool, replayed_in_parts: bool
) -> None:
    async def done(layer: Any, in_parts: bool, *, answers: bool) -> Any:
        models = {'v/a': a, 'v/b': b} if answers else {'v/a': [never], 'v/b': [never]}
        one = world(models, repeat=True)
        options: dict[str, Any] = {
            'use': [*fresh(use), layer],
            'tools': [seen if answers else dead_seen],
            'max_turns': 3,
        }
        try:
            if in_parts:
                return await one.ai.generate_stream(prompt='hi', **options).response
            return await one.ai.generate(prompt='hi', **options)
        except LamellaError as error:
            return error

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'runs.jsonl'
        was = asyncio.run(done(Recorder(path), recorded_in_parts, answers=True))
        now = asyncio.run(done(Replayer(path), replayed_in_parts, answers=False))
    same_mode = recorded_in_parts == replayed_in_parts
    assert plainly(now, same_mode=same_mode) == plainly(was, same_mode=same_mode)


def seen() -> str:
    return 'seen'


def dead_seen() -> str:
    return str(never())


seen.__name__ = dead_seen.__name__ = 'look'
