"""Every Python sample of the first seed, run as printed after the renaming, over real HTTP against the simulator."""

import asyncio
import hashlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from lamella import Lamella, LamellaError
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.middleware import Fallback, Middleware, Retry, ToolApproval
from lamella.simulator import Answer, Fault, Simulator
from lamella.testing import FakeClock
from tests.seeds import samples

FLASH = 'gemini-2.0-flash'
# The page as it was taken over. No formatter, editor or well-meant correction may change what was printed.
PRINTED = 'c8dd1f7e11d38e8de7c830ca4cc40356cdb8c59e05f4257f106dc68f5d643545'
transferred: list[int] = []


def transfer_money(amount: int, account: str) -> str:
    """Transfer an amount to an account."""
    transferred.append(amount)
    return 'transferred'


def read_file(path: str = 'main.py') -> str:
    """Read a file of the workspace."""
    return 'print(0)'


def list_files() -> list[str]:
    """List the files of the workspace."""
    return ['main.py']


def write_file(path: str, content: str) -> str:
    """Write a file of the workspace."""
    raise AssertionError('nobody approved this')


def edit_file(path: str, old: str, new: str) -> str:
    """Edit a file of the workspace."""
    raise AssertionError('nobody approved this')


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """The vendor's place is taken by the simulator; the samples find it as users would point them to a server."""
    async with Simulator(api_keys=['key-of-the-test']) as simulator:
        monkeypatch.setenv('GEMINI_API_KEY', 'key-of-the-test')
        monkeypatch.setenv('GOOGLE_GEMINI_BASE_URL', simulator.base_url)
        yield simulator


@pytest.fixture
async def ai(google: Simulator) -> AsyncIterator[Lamella]:
    """The app of the page, with a clock that does not wait."""
    plugins = [GoogleAI(), Middleware()]
    async with Lamella(plugins=plugins, model=f'googleai/{FLASH}', clock=FakeClock()) as ai:
        transferred.clear()
        yield ai


def taken_for_granted(ai: Lamella) -> dict[str, Any]:
    """What the page uses without showing it."""
    return {
        **samples.imported_above(),
        'ai': ai,
        'user_input': 'The sky is blue because air scatters blue light more than red.',
        'very_long_document': 'word ' * 5000,
        'input': samples.answering('n'),
        'Retry': Retry,
        'Fallback': Fallback,
        'ToolApproval': ToolApproval,
        **{tool.__name__: tool for tool in (transfer_money, read_file, list_files, write_file, edit_file)},
    }


def asked(google: Simulator) -> list[str | None]:
    return [request.model for request in google.requests]


@pytest.mark.parametrize('name', [name for name in samples.printed('python') if name != 'common patterns'])
async def test_the_sample_runs_as_printed(name: str, ai: Lamella) -> None:
    """The common patterns hold a placeholder, and have a test of their own beside the claims about them."""
    given = taken_for_granted(ai)
    if name == 'composing':
        given |= await samples.run('logging', given)
    names = await samples.run(name, given)
    if 'response' in names:
        assert names['response'].stop_reason in ('final', 'interrupted')


def test_the_renaming_is_the_only_change() -> None:
    for name, text in samples.printed('python').items():
        run = samples.program(name)
        assert run.replace('lamella', 'genkit').replace('Lamella', 'Genkit') == text
        assert 'genkit' not in run.lower()


def test_the_samples_are_as_they_were_printed() -> None:
    assert hashlib.sha256(samples.PAGE.read_text(encoding='utf-8').encode()).hexdigest() == PRINTED


def test_the_page_has_all_its_samples() -> None:
    assert (len(samples.printed('python')), len(samples.printed('text'))) == (16, 3)


async def test_without_layers_an_overloaded_model_is_an_error(ai: Lamella, google: Simulator) -> None:
    google.use(faults=[Fault('status', status=503)])
    with pytest.raises(LamellaError, match='UNAVAILABLE'):
        await samples.run('without middleware', taken_for_granted(ai))
    assert asked(google) == [FLASH]


async def test_without_layers_money_is_transferred_without_review(ai: Lamella) -> None:
    await samples.run('without middleware', taken_for_granted(ai))
    assert transferred == [5000]


async def test_with_an_approval_it_is_not(ai: Lamella) -> None:
    prompt = 'Transfer $5000 to account X'
    response = await ai.generate(prompt=prompt, tools=[transfer_money], use=[ToolApproval(allowed_tools=[])])
    assert [part.tool_request.name for part in response.interrupts] == ['transfer_money']
    assert transferred == []


async def test_the_first_layer_prints_both_sides_of_the_call(ai: Lamella, capsys: pytest.CaptureFixture[str]) -> None:
    await samples.run('a layer', taken_for_granted(ai))
    assert capsys.readouterr().out == '→ model call: 1 messages\n← finish reason: stop\n'


async def test_the_printed_app_is_ready_for_calls(google: Simulator) -> None:
    names = await samples.run('the plugin', {})
    async with names['ai'] as ai:
        response = await ai.generate(prompt='Rivers run to the sea.', use=[names['Retry']()])
    assert 'Rivers run to the sea.' in response.text
    assert asked(google) == [FLASH]


async def test_the_printed_retry_survives_three_failures(ai: Lamella, google: Simulator) -> None:
    google.use(faults=[Fault('status', status=429, times=1), Fault('status', status=503, times=3)])
    names = await samples.run('retry', taken_for_granted(ai))
    assert names['response'].finish_reason == 'stop'
    assert asked(google) == [FLASH] * 4


async def test_the_printed_retry_raises_at_the_fourth(ai: Lamella, google: Simulator) -> None:
    google.use(faults=[Fault('status', status=503, times=4)])
    with pytest.raises(LamellaError, match='UNAVAILABLE') as caught:
        await samples.run('retry', taken_for_granted(ai))
    assert len(caught.value.attempts) == 4


async def test_the_printed_fallback_asks_the_models_of_its_list(ai: Lamella, google: Simulator) -> None:
    google.use(faults=[Fault('status', status=503, times=1)])
    names = await samples.run('fallback', taken_for_granted(ai))
    assert names['response'].model.endswith(FLASH)
    assert asked(google) == [FLASH, 'gemini-flash-latest', FLASH]


async def test_the_printed_composition_goes_through_both_models_before_it_waits(
    ai: Lamella, google: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    google.use(faults=[Fault('status', status=503, times=1)])
    given = taken_for_granted(ai)
    await samples.run('composing', given | await samples.run('logging', given))
    assert asked(google) == [FLASH, 'gemini-flash-latest', FLASH]
    assert len(re.findall(r'^\[lamella\] model=', capsys.readouterr().out, re.MULTILINE)) == 1


async def test_the_printed_logging_says_messages_finish_tokens_and_time(
    ai: Lamella, capsys: pytest.CaptureFixture[str]
) -> None:
    names = await samples.run('logging', {})
    response = await ai.generate(prompt='Rivers run to the sea.', use=[names['LoggingMiddleware']()])
    line = r'\[lamella\] model=GenerationConfig\(.*\) messages=1 finish=stop tokens=(\d+) elapsed=\d+ms\n'
    found = re.fullmatch(line, capsys.readouterr().out)
    assert found is not None
    assert int(found[1]) == response.usage.total_tokens > 0


async def test_the_printed_logging_says_errors_and_lets_them_through(
    ai: Lamella, google: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    google.use(faults=[Fault('status', status=400, message='no such thing')])
    names = await samples.run('logging', {})
    with pytest.raises(LamellaError, match='INVALID_ARGUMENT'):
        await ai.generate(prompt='hi', use=[names['LoggingMiddleware']()])
    assert re.fullmatch(
        r'\[lamella\] ERROR after \d+ms: INVALID_ARGUMENT: .*no such thing.*\n', capsys.readouterr().out
    )


async def test_the_printed_structured_logging_logs_calls_and_errors(ai: Lamella, google: Simulator) -> None:
    with structlog.testing.capture_logs() as logged:
        names = await samples.run('structured logging', samples.imported_above())
        layer = names['StructuredLoggingMiddleware']()
        response = await ai.generate(prompt='Rivers run to the sea.', use=[layer])
        google.use(faults=[Fault('status', status=503)])
        with pytest.raises(LamellaError):
            await ai.generate(prompt='hi', use=[layer])
    call, error = logged
    assert call.pop('elapsed_ms') >= 0
    tokens = response.usage.total_tokens
    assert call == {'event': 'lamella.model.call', 'finish_reason': 'stop', 'tokens': tokens, 'log_level': 'info'}
    assert (error['event'], error['log_level']) == ('lamella.model.error', 'error')
    assert error['error'].startswith('UNAVAILABLE')


async def test_the_printed_approval_loop_runs_over_http(ai: Lamella, google: Simulator) -> None:
    wrote: list[str] = []

    def write_file(path: str, content: str) -> str:
        """Write a file."""
        wrote.append(path)
        return 'written'

    google.use(answers=[Answer(tool='write_file', input={'path': 'main.py', 'content': 'x'}, text='It is fixed.')])
    for typed, said in (('n', 'Action denied: write_file'), ('y', 'It is fixed.')):
        given = {**taken_for_granted(ai), 'write_file': write_file, 'input': samples.answering(typed)}
        names = await samples.run('the approval loop', given)
        assert await names['agent_with_approval']('fix the bug in main.py') == said
    assert wrote == ['main.py']


# ── the production program ──────────────────────────────────────────────────────────────────────────────────────────


async def production_flow(root: Path) -> tuple[int | None, str, str]:
    """The sample as a file of its own, run as a program: exit code, output, errors."""
    path = root / 'src' / 'production_flow.py'
    path.parent.mkdir()
    path.write_text(samples.program('production flow'), encoding='utf-8')
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, str(path), stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def kinds(output: str) -> list[str]:
    """How an output's lines begin, each kind once."""
    return list(dict.fromkeys(line[: len(line) - len(line.lstrip())] + line.split()[0] for line in output.splitlines()))


async def test_the_production_program_prints_telemetry_bullets_and_sentiment(google: Simulator, tmp_path: Path) -> None:
    code, out, err = await production_flow(tmp_path)
    assert (code, err) == (0, '')
    telemetry, *bullets, sentiment = out.splitlines()
    numbers = r'\[telemetry\] input_tokens=(\d+) output_tokens=(\d+) total_tokens=(\d+) elapsed_ms=\d+'
    found = re.fullmatch(numbers, telemetry)
    assert found is not None
    assert int(found[1]) + int(found[2]) == int(found[3])
    assert 1 <= len(bullets) <= 5
    assert '  • The new product launch exceeded all expectations.' in bullets
    assert all(bullet.startswith('  • ') and 'sentiment' not in bullet for bullet in bullets)
    assert re.fullmatch(r'Sentiment: positive \(confidence: \d+%\)', sentiment)
    assert asked(google) == ['gemini-2.5-pro']


async def test_the_production_output_has_the_form_that_the_page_shows(google: Simulator, tmp_path: Path) -> None:
    _, out, _ = await production_flow(tmp_path)
    page = samples.printed('text')['output of the production flow']
    assert kinds(out) == kinds(page) == ['[telemetry]', '  •', 'Sentiment:']


async def test_the_application_does_not_know_which_model_answered(google: Simulator, tmp_path: Path) -> None:
    google.use(
        faults=[Fault('status', model='gemini-2.5-pro', status=429), Fault('status', model='*latest', status=503)]
    )
    code, out, err = await production_flow(tmp_path)
    assert (code, err) == (0, '')
    assert out.count('[telemetry]') == 1
    assert asked(google) == ['gemini-2.5-pro', 'gemini-flash-latest', FLASH]


async def test_the_production_program_fails_as_a_program_when_nothing_answers(
    google: Simulator, tmp_path: Path
) -> None:
    google.use(faults=[Fault('status', status=400, message='no')])
    code, out, err = await production_flow(tmp_path)
    assert code == 1
    assert '[telemetry] error: INVALID_ARGUMENT' in out
    assert 'LamellaError: INVALID_ARGUMENT' in err
