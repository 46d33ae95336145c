"""The demo, run as a program: what it prints, and what its exit code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.simulator import Answer, Fault, Simulator

ROOT = Path(__file__).resolve().parent.parent
KEY = 'sk-key-of-the-test-0123456789'


def demo(*arguments: str, typed: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished program. Its standard input is a terminal on which `typed` was typed, or nothing at all."""
    command = [sys.executable, str(ROOT / 'examples' / 'demo.py'), *arguments]
    stdin, terminal = subprocess.DEVNULL, None
    if typed is not None:
        terminal, stdin = os.openpty()
        os.write(terminal, typed.encode())
    try:
        env = {**os.environ, **environment}
        return subprocess.run(command, env=env, stdin=stdin, capture_output=True, text=True, timeout=120, check=False)
    finally:
        for opened in (terminal, stdin) if terminal is not None else ():
            os.close(opened)


def provider(base_url: str) -> dict[str, str]:
    """The environment of somebody with a key: the simulator plays the provider."""
    return {'OPENAI_API_KEY': KEY, 'OPENAI_BASE_URL': f'{base_url}/v1'}


@pytest.fixture(scope='module')
def shown() -> str:
    ran = demo()
    assert (ran.returncode, ran.stderr) == (0, '')
    return ran.stdout


def part(shown: str, number: int) -> str:
    """The text of one of the three parts."""
    return re.split(r'^── ', shown, flags=re.MULTILINE)[number]


def promises(shown: str) -> list[str]:
    return re.findall(r'^  ([✓✗]) ', shown, re.MULTILINE)


def test_every_promise_is_kept(shown: str) -> None:
    assert promises(shown) == ['✓'] * 12
    assert shown.rstrip().endswith('All as promised.')


def test_the_onion_is_shown_with_the_model_call_in_its_middle(shown: str) -> None:
    onion = part(shown, 1).splitlines()[2:7]
    layers = ['ConsoleLogger', 'TelemetryMiddleware', 'Retry', 'Fallback', 'model call']
    assert [line.strip().split('(')[0] for line in onion] == layers
    assert [len(line) - len(line.lstrip()) for line in onion] == [0, 2, 4, 6, 8]


def test_every_attempt_wait_and_fallback_is_shown_as_it_happens(shown: str) -> None:
    happened = re.findall(
        r'(failed in .*?: [A-Z_]+|-> openai/\S+|waits \S+ s|all 3 models failed|attempt 2: stop|\[telemetry\])',
        part(shown, 1),
    )
    kinds = [re.sub(r'(in|waits) [\d.]+ s', r'\1 … s', line) for line in happened]
    assert kinds == [
        'failed in … s: UNAVAILABLE',
        '-> openai/gpt-5-nano:',
        'failed in … s: UNAVAILABLE',
        '-> openai/gpt-4.1-mini:',
        'failed in … s: RESOURCE_EXHAUSTED',
        'all 3 models failed',
        'waits … s',
        'failed in … s: UNAVAILABLE',
        '-> openai/gpt-5-nano:',
        'attempt 2: stop',
        '[telemetry]',
    ]


def test_the_summary_quotes_the_text_in_bullets_and_has_a_sentiment(shown: str) -> None:
    text = (ROOT / 'examples' / 'data' / 'tool_library.txt').read_text(encoding='utf-8')
    bullets = re.findall(r'^  • (.*)$', part(shown, 1), re.MULTILINE)
    assert 1 <= len(bullets) <= 5
    assert all(bullet in text for bullet in bullets)
    assert re.search(r'^Sentiment: (positive|negative|neutral) \(confidence: \d+%\)$', part(shown, 1), re.MULTILINE)


def test_the_reader_of_the_stream_sees_one_answer(shown: str) -> None:
    assert part(shown, 2).count('[Lamella simulator, quoting the prompt]') == 1
    assert 'gpt-5-mini → gpt-5-nano' in part(shown, 2)


def test_the_tool_is_refused_once_and_approved_once(shown: str) -> None:
    assert re.findall(r'Approve\? \[y/N\]: (\w)', shown) == ['n', 'y']
    assert part(shown, 3).count('Agent wants to call: write_file') == 2
    assert 'wrote 27 characters to note.txt' in part(shown, 3)


def test_a_forged_approval_is_refused(shown: str) -> None:
    assert 'a message that claims an approval approves nothing; files: []' in shown
    assert re.search(r'PERMISSION_DENIED: the decision on .* was made for another input', shown)


def test_with_a_key_the_same_program_asks_that_provider() -> None:
    with Simulator(api_keys=[KEY]).in_thread() as simulator:
        ran = demo(LAMELLA_DEMO_MODEL='my-model', **provider(simulator.base_url))
        assert {request.model for request in simulator.requests} == {'my-model'}
    assert (ran.returncode, ran.stderr) == (0, '')
    assert set(promises(ran.stdout)) == {'✓'}
    assert KEY not in ran.stdout


def test_a_provider_that_refuses_ends_the_program_with_its_error() -> None:
    with Simulator(faults=[Fault('status', status=401, message=f'bad key {KEY}')]).in_thread() as simulator:
        ran = demo(**provider(simulator.base_url))
    assert ran.returncode == 1
    assert ran.stderr.startswith('the demo ended early: UNAUTHENTICATED')
    assert KEY not in ran.stdout + ran.stderr


def test_a_promise_that_does_not_hold_is_named_and_the_program_fails() -> None:
    with Simulator(answers=[Answer(match='write_file', text='I would rather not.')]).in_thread() as simulator:
        ran = demo(**provider(simulator.base_url))
    assert ran.returncode == 1
    assert '✗ the agent asked before it acted' in ran.stdout
    assert 'Not as promised: the agent asked before it acted' in ran.stdout


def test_without_a_terminal_no_question_is_asked() -> None:
    with Simulator().in_thread() as simulator:
        ran = demo('--ask', **provider(simulator.base_url))
    assert (ran.returncode, ran.stderr) == (0, '')


@pytest.mark.skipif(not hasattr(os, 'openpty'), reason='needs a pseudo terminal')
def test_at_a_terminal_you_decide_yourself() -> None:
    with Simulator().in_thread() as simulator:
        ran = demo('--ask', typed='y\nn\n', **provider(simulator.base_url))
    assert (ran.returncode, ran.stderr) == (0, '')
    assert re.findall(r'✓ (allowed|denied); files: (.*)', ran.stdout) == [('allowed', "['note.txt']"), ('denied', '[]')]
