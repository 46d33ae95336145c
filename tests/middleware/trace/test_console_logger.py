"""`ConsoleLogger`: the lines it prints, what it never prints, and that nothing of it reaches the run."""

import asyncio
import io
import re
import sys
from random import Random
from typing import Any

import pytest

from lamella import Interrupt, ModelResponse, ToolError, Usage, wrap_language_model
from lamella.middleware import BaseMiddleware, ConsoleLogger, Fallback, Retry, ToolApproval
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, LamellaError, TextDelta, ToolRequest
from tests.middleware.kit import HeldClock, both, cut, down, shown, world

ANSWER = ModelResponse.text_of('the answer', usage=Usage(187, 89, 276, cost_usd=0.0012))


def logger(**options: Any) -> tuple[ConsoleLogger, io.StringIO]:
    out = io.StringIO()
    return ConsoleLogger(stream=out, **options), out


def lines(out: io.StringIO) -> list[str]:
    """What was printed, without the run's id and the time."""
    return [re.sub(r'^\w{6} +\S+s +(\w+) +', r'\1: ', line) for line in out.getvalue().splitlines()]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


# ── what is printed ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plain_run_is_three_lines() -> None:
    layer, out = logger()
    await world({'x/a': [ANSWER]}).answer(layer)
    assert lines(out) == [
        'run: x/a started',
        'model: x/a attempt 1: stop in 0.00 s, 187+89 tokens, $0.001200',
        'run: final after 1 turn, 187+89 tokens, $0.001200',
    ]


async def test_attempts_waits_switches_and_giving_up_are_one_line_each() -> None:
    layer, out = logger()
    app = world({'x/a': [down(message='busy')] * 2, 'x/b': [down('INTERNAL', 'broken')] * 2})
    await app.answer(layer, Fallback(models=['x/b']), Retry(max_retries=1, no_jitter=True))
    assert lines(out) == [
        'run: x/a started',
        'model: x/a failed in 0.00 s: UNAVAILABLE: busy',
        'retry: waits 1.00 s after attempt 1: UNAVAILABLE',
        'model: x/a failed in 0.00 s: UNAVAILABLE: busy',
        'retry: gave up after 2 attempts (exhausted): UNAVAILABLE',
        'fallback: x/a -> x/b: UNAVAILABLE',
        'model: x/b failed in 0.00 s: INTERNAL: broken',
        'retry: waits 1.00 s after attempt 1: INTERNAL',
        'model: x/b failed in 0.00 s: INTERNAL: broken',
        'retry: gave up after 2 attempts (exhausted): INTERNAL',
        'fallback: all 2 models failed: INTERNAL',
        'run: failed: INTERNAL: broken',
    ]


def good(word: str) -> str:
    return f'said {word}'


def bad(word: str) -> str:
    raise ToolError('no such word')


def broken(word: str) -> str:
    raise ValueError('a bug')


async def test_tools_are_one_line_each() -> None:
    layer, out = logger()
    app = world({'x/a': [ToolRequest('good', {'word': 'w'}), ToolRequest('bad', {'word': 'w'}), 'done']})
    await app.answer(layer, tools=[good, bad])
    assert [line for line in lines(out) if line.startswith('tool')] == [
        'tool: good done in 0.00 s',
        'tool: bad answered with an error in 0.00 s',
    ]


async def test_a_tool_that_waits_or_breaks_is_told() -> None:
    layer, out = logger()
    await world({'x/a': [ToolRequest('good', {'word': 'w'})]}).answer(layer, ToolApproval(), tools=[good])
    assert [line for line in lines(out) if line.startswith('tool')] == [
        'tool: good waits for a decision: good is not in allowed_tools and needs an approval'
    ]
    with pytest.raises(ValueError, match='a bug'):
        await world({'x/a': [ToolRequest('broken', {'word': 'w'})]}).answer(layer, tools=[broken])
    assert lines(out)[-2:] == ['tool: broken failed: ValueError: a bug', 'run: failed: ValueError: a bug']


async def test_a_stream_is_told_in_the_same_lines() -> None:
    whole, streamed = logger(), logger()
    await world({'x/a': [down(), ANSWER]}).answer(whole[0], Retry())
    await world({'x/a': [down(), ANSWER]}).read(streamed[0], Retry())
    assert lines(streamed[1])[0] == 'run: x/a started (stream)'
    assert lines(streamed[1])[1:] == lines(whole[1])[1:]


async def test_what_is_not_known_of_the_cost_is_left_out() -> None:
    layer, out = logger()
    for usage in (Usage(input_tokens=5), Usage(total_tokens=9), Usage(cost_usd=1), Usage()):
        await world({'x/a': [ModelResponse.text_of('x', usage=usage)]}).answer(layer)
    assert [line for line in lines(out) if line.startswith('run: final')] == [
        'run: final after 1 turn, 5+? tokens',
        'run: final after 1 turn, 9 tokens',
        'run: final after 1 turn, $1.000000',
        'run: final after 1 turn',
    ]


class Tells(BaseMiddleware):
    """A layer whose events nobody here knows."""

    async def wrap_model(self, params, ctx, next_fn):
        ctx.emit(
            'breaker.opened', model='x/a', failures=5, share=0.5, text='a whole sentence', error=KeyError('x'), n=None
        )
        return await next_fn(params, ctx)


async def test_events_of_other_layers_are_told_without_their_texts() -> None:
    layer, out = logger()
    await world({'x/a': ['hello']}).answer(layer, Tells())
    expected = 'breaker: opened model=x/a failures=5 share=0.5 text=<16 characters> error=KeyError n=None'
    assert lines(out)[1] == expected


async def test_lines_begin_with_the_end_of_the_runs_id_and_the_time_since_its_start() -> None:
    layer, out = logger()
    app = world({'x/a': [down(), 'hello']})
    await app.answer(layer, Retry(no_jitter=True))
    run_id = app.sink.events[0].run_id
    printed = out.getvalue().splitlines()
    assert all(line.startswith(f'{run_id[-6:]} ') for line in printed)
    assert [line.split()[1] for line in printed] == ['+0.000s', '+0.000s', '+0.000s', '+1.000s', '+1.000s']


async def test_runs_at_once_and_runs_inside_of_runs_are_told_apart() -> None:
    layer, out = logger()
    app = world({'x/a': [ToolRequest('ask'), 'outer'], 'x/b': ['inner']}, use=[layer])

    async def ask() -> str:
        return (await app.ai.generate(model='x/b', prompt='hi')).text

    await app.answer(tools=[ask])
    ids = {line.split()[0] for line in out.getvalue().splitlines()}
    by_id = {ident: [line for line in out.getvalue().splitlines() if line.startswith(ident)] for ident in ids}
    assert sorted(len(told) for told in by_id.values()) == [3, 5]
    assert all(('x/b' in line) == (len(told) == 3) for told in by_id.values() for line in told if ' model ' in line)


async def test_two_hundred_runs_share_one_instance() -> None:
    layer, out = logger()
    app = world({'x/a': ['hello']}, repeat=True)
    await asyncio.gather(*[app.answer(layer) for _ in range(200)])
    ids = [line.split()[0] for line in out.getvalue().splitlines()]
    assert len(ids) == 600
    assert {ids.count(ident) for ident in set(ids)} == {3}


# ── once, wherever it stands ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_told_once_however_often_the_layer_is_there() -> None:
    layer, out = logger()
    other = ConsoleLogger(stream=out)
    model = wrap_language_model(model=ScriptedModel(['hello'], name='y/m'), middleware=[layer, other])
    await world({'x/a': []}, use=[layer, other]).answer(layer, other, model=model)
    assert len(lines(out)) == 3


async def test_what_is_given_is_printed_once_too() -> None:
    layer, out = logger(show_input=True)
    await world({'x/a': ['hello']}).answer(layer, ConsoleLogger(stream=out, show_input=True), layer)
    assert [line for line in lines(out) if line.startswith('input')] == ['input: user: hi']


async def test_two_streams_are_both_told() -> None:
    (one, first), (two, second) = logger(), logger()
    await world({'x/a': ['hello']}).answer(one, two)
    assert lines(first) == lines(second)
    assert len(lines(first)) == 3


@pytest.mark.parametrize('streamed', [False, True])
async def test_fixed_on_a_model_it_tells_of_a_run_from_the_first_call_of_that_model_on(streamed: bool) -> None:
    layer, out = logger()
    inner = ScriptedModel([down(), ToolRequest('good', {'word': 'w'}), 'done'], name='y/m')
    model = wrap_language_model(model=inner, middleware=[layer, Retry(no_jitter=True)])
    app = world({'x/a': []})
    await (app.read(model=model, tools=[good]) if streamed else app.answer(model=model, tools=[good]))
    assert lines(out) == [
        'model: y/m failed in 0.00 s: UNAVAILABLE: down',
        'retry: waits 1.00 s after attempt 1: UNAVAILABLE',
        'model: y/m attempt 2: tool_calls in 0.00 s',
        'tool: good done in 0.00 s',
        'model: y/m attempt 1: stop in 0.00 s',
        'run: final after 2 turns',
    ]


async def test_fixed_on_a_fallback_it_is_silent_until_that_is_asked() -> None:
    layer, out = logger()
    spare = wrap_language_model(model='x/b', middleware=layer)
    app = world({'x/a': ['hello', down()], 'x/b': ['spare']})
    await app.answer(Fallback(models=[spare]))
    assert lines(out) == []
    await app.answer(Fallback(models=[spare]))
    assert lines(out) == ['model: x/b attempt 1: stop in 0.00 s', 'run: final after 1 turn']


async def test_it_stands_in_no_stream() -> None:
    assert ConsoleLogger._hooks == {'tools', 'transform_params', 'wrap_embed'}
    layer, _ = logger()
    response = await both(
        lambda: world({'x/a': [down(), 'hello']}, random=Random(1)).ai, prompt='hi', use=[layer, Retry(no_jitter=True)]
    )
    assert response.text == 'hello'


# ── content ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET_PLANS = 'the secret plans'


async def test_content_is_not_printed_unless_asked_for() -> None:
    layer, out = logger()
    app = world({'x/a': [ToolRequest('good', {'word': SECRET_PLANS}), SECRET_PLANS]})
    await app.ai.generate(prompt=SECRET_PLANS, system=SECRET_PLANS, tools=[good], use=[layer])
    assert SECRET_PLANS not in out.getvalue()


async def test_what_models_and_tools_are_given_is_printed_when_asked_for() -> None:
    layer, out = logger(show_input=True)
    app = world({'x/a': [ToolRequest('good', {'word': 'plans'}), down(), 'done']})
    await app.ai.generate(prompt='say plans', tools=[good], use=[layer, Retry(no_jitter=True), layer])
    assert [line for line in lines(out) if line.startswith(('input', 'tool'))] == [
        'input: user: say plans',
        'tool: good called with {"word":"plans"}',
        'tool: good done in 0.00 s',
        'input: tool: good answered "said plans"',
    ]


async def test_long_content_is_cut() -> None:
    layer, out = logger(show_input=True, max_chars=20)
    await world({'x/a': ['hello']}).ai.generate(prompt='a long prompt ' * 9, use=[layer])
    assert lines(out)[1] == 'input: user: a long prompt a l...'


async def test_a_line_stays_one_line_and_commands_no_terminal() -> None:
    layer, out = logger(show_input=True)
    app = world({'x/a': [down(message='one\r\ntwo\x1b[2J\u202eevil\x07')]})
    with pytest.raises(LamellaError):
        await app.ai.generate(prompt='\x1b]0;title\x07hi\u2028there', use=[layer])
    printed = out.getvalue().split('\n')
    assert all(line.isprintable() for line in printed)
    assert [line.partition(': ')[2] for line in printed[1:3]] == [
        ' ]0;title hi there',
        'UNAVAILABLE: one  two [2J evil ',
    ]


async def test_names_command_no_terminal_either() -> None:
    layer, out = logger()
    await world({'x/a': []}).answer(layer, model=ScriptedModel(['hello'], name='x/\x1b[2J\nfake line'))
    assert all(line.isprintable() for line in out.getvalue().split('\n'))
    assert len(lines(out)) == 3


async def test_credentials_are_masked_wherever_they_turn_up() -> None:
    layer, out = logger(show_input=True)
    key = 'sk-ant-api03-abcdefghijklmnop'
    app = world({'x/a': [down(message=f'bad key {key}'), ToolRequest('good', {'word': f'password={key}'}), 'done']})
    await app.ai.generate(prompt=f'my key is {key}', tools=[good], use=[layer, Retry(no_jitter=True)])
    assert key not in out.getvalue()
    assert out.getvalue().count('***') >= 3


# ── never harmful ───────────────────────────────────────────────────────────────────────────────────────────────────


class Fails(io.StringIO):
    """A stream whose writing fails in some way."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str, /) -> int:
        raise self.error


@pytest.mark.parametrize('error', [BrokenPipeError(), OSError('full'), ValueError('closed'), RuntimeError('bug')])
@pytest.mark.parametrize('terminal', [False, True])
async def test_a_stream_that_cannot_be_written_to_harms_nothing(
    error: Exception, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('NO_COLOR', raising=False)
    monkeypatch.setenv('TERM', 'xterm-256color')
    out = Fails(error)
    if terminal:
        monkeypatch.setattr(out, 'isatty', lambda: True, raising=False)
    layer = ConsoleLogger(stream=out, show_input=True)
    response = await both(lambda: world({'x/a': [down(), 'hello']}).ai, prompt='hi', use=[layer, Retry(no_jitter=True)])
    assert response.text == 'hello'


async def test_a_closed_stream_harms_nothing() -> None:
    out = io.StringIO()
    out.close()
    assert (await world({'x/a': ['hello']}).answer(ConsoleLogger(stream=out))).text == 'hello'


async def test_a_program_without_stderr_is_not_harmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'stderr', None)
    assert (await world({'x/a': ['hello']}).answer(ConsoleLogger())).text == 'hello'


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
async def test_a_stream_of_another_encoding_gets_the_line_in_escapes(encoding: str) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    layer = ConsoleLogger(stream=out, show_input=True)
    await world({'x/a': ['hello']}).ai.generate(prompt='snow \u2603', use=[layer])
    assert b'user: snow \\u2603' in raw.getvalue()


async def test_input_that_is_no_json_harms_nothing() -> None:
    layer, out = logger(show_input=True)
    app = world({'x/a': [ToolRequest('good', {'word': 'x', 'odd': object()}), 'done']})
    response = await app.answer(layer, tools=[good])
    assert response.text == 'done'
    assert 'called with' in out.getvalue()


async def test_cancellation_passes() -> None:
    layer, out = logger()
    clock = HeldClock()

    async def stuck(request: Any) -> str:
        await clock.sleep(9)
        return 'late'

    app = world({'x/a': [stuck]}, clock=clock)
    call = asyncio.create_task(app.ai.generate(prompt='hi', use=[layer]))
    await clock.somebody_sleeps()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert lines(out)[-1] == 'run: failed: CancelledError: '


# ── colour ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv('NO_COLOR', raising=False)
    monkeypatch.setenv('TERM', 'xterm-256color')
    return monkeypatch


async def printed_on(out: io.StringIO) -> str:
    await world({'x/a': [down(message='[bold]no markup[/bold] ' + 'x' * 100)]}).answer(ConsoleLogger(stream=out))
    return out.getvalue()


def uncoloured(text: str) -> str:
    return re.sub(r'\x1b\[[0-9;]*m', '', text)


async def test_a_terminal_gets_colours_and_the_same_text(colours: pytest.MonkeyPatch) -> None:
    pytest.importorskip('rich')
    coloured, plain = await printed_on(Terminal()), await printed_on(io.StringIO())
    assert '\x1b[' in coloured
    assert uncoloured(coloured) == plain
    assert '[bold]no markup[/bold]' in plain


async def test_a_file_gets_no_colours(colours: pytest.MonkeyPatch) -> None:
    assert '\x1b[' not in await printed_on(io.StringIO())


@pytest.mark.parametrize(('name', 'value'), [('NO_COLOR', '1'), ('TERM', 'dumb')])
async def test_who_wants_no_colours_gets_none(colours: pytest.MonkeyPatch, name: str, value: str) -> None:
    colours.setenv(name, value)
    assert '\x1b[' not in await printed_on(Terminal())


async def test_without_rich_a_terminal_gets_plain_text(colours: pytest.MonkeyPatch) -> None:
    colours.setitem(sys.modules, 'rich.console', None)
    assert uncoloured(await printed_on(Terminal())) == await printed_on(Terminal())


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_stream_lines_go_to_the_stderr_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    await world({'x/a': ['hello']}).answer(ConsoleLogger())
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ('', 3)


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'stream': 'stderr'}, 'stream: Value error, is a str: give a text stream such as sys.stdout'),
        ({'stream': open}, 'stream: Value error, is a builtin_function_or_method: give a text stream'),
        ({'show_input': 'yes'}, "show_input: Input should be a valid boolean (given 'yes')"),
        ({'max_chars': 5}, 'max_chars: Input should be greater than or equal to 20 (given 5)'),
        ({'show_inputs': True}, "unknown setting 'show_inputs': did you mean 'show_input'?"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ConsoleLogger(**options)
    assert problem in caught.value.message


async def test_a_partial_stream_and_an_interrupted_tool_are_told_too() -> None:
    layer, out = logger()
    parts, error = await world({'x/a': [cut('Hel', TextDelta('lo'))]}).read(layer, Retry())
    assert (shown(parts), type(error)) == ('Hello', LamellaError)
    assert lines(out)[1:] == [
        'model: x/a failed in 0.00 s: UNAVAILABLE: cut',
        'retry: gave up after 1 attempt (partial): UNAVAILABLE',
        'run: failed: UNAVAILABLE: cut',
    ]

    def asks(word: str) -> str:
        raise Interrupt('really?')

    await world({'x/a': [ToolRequest('asks', {'word': 'w'})]}).answer(layer, tools=[asks])
    assert lines(out)[-2:] == ['tool: asks waits for a decision: really?', 'run: interrupted after 1 turn']
