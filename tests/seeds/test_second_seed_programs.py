"""The long examples of the second seed, written in Python, run as programs against a provider that fails on schedule."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lamella
from lamella.simulator import Answer, Fault, Simulator

PROGRAMS = Path(__file__).with_name('programs')
KEYS = dict.fromkeys(('ANTHROPIC_API_KEY', 'GEMINI_API_KEY', 'OPENAI_API_KEY'), 'key')


@pytest.fixture
def simulator() -> Iterator[Any]:
    with Simulator().in_thread() as running:
        yield running


def run(name: str, simulator: Any, **environment: str) -> list[str]:
    """The lines that the program prints."""
    url = simulator.base_url
    env = {
        **os.environ,
        **KEYS,
        'ANTHROPIC_BASE_URL': url,
        'GOOGLE_GEMINI_BASE_URL': url,
        'OPENAI_BASE_URL': f'{url}/v1',
        'PYTHONPATH': str(Path(lamella.__file__).parents[1]),
        'PYTHONWARNINGS': 'error',
        **environment,
    }
    command = [sys.executable, str(PROGRAMS / f'{name}.py')]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    return done.stdout.splitlines()


def test_every_program_is_run_here() -> None:
    source = Path(__file__).read_text(encoding='utf-8')
    ran = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'run'
    }
    assert {path.stem for path in PROGRAMS.glob('*.py')} == ran


def test_static_decoration_retries_whole_calls_and_counts_the_parts_of_streams(simulator: Any) -> None:
    simulator.use(faults=[Fault('status', status=529, times=2)])
    said = run('static_decoration', simulator)
    asked = simulator.requests
    assert [request.status for request in asked] == [529, 529, 200, 200]
    assert {request.model for request in asked} == {'claude-sonnet-4.5'}
    assert all('traceRetry' not in str(request.body) for request in asked)  # metadata is never sent
    assert said[0].startswith("[TRACE:infra-001] Generate success {'tokens': ")
    assert 'quantum entanglement' in said[1]
    assert said[2].startswith("[TRACE:infra-001] Stream completed {'chunks': ")
    assert said[3] == said[1]
    assert int(said[2].rpartition(' ')[2].rstrip('}')) > 5


def test_dynamic_interception_is_configured_for_the_request_and_sees_models_and_tools(simulator: Any) -> None:
    simulator.use(
        faults=[Fault('status', status=503, times=1)],
        answers=[Answer(tool='look_up', input={'topic': 'caching'})],
    )
    said = run('dynamic_interception', simulator)
    trace = said[0].partition(']')[0]
    assert trace.startswith('[TRACE:req-')
    assert said[:3] == [
        f"{trace}] Model call succeeded {{'status': 'tool_calls', 'took': True}}",
        f'{trace}] Tool intercepted: look_up',
        f"{trace}] Model call succeeded {{'status': 'stop', 'took': True}}",
    ]
    assert 'caching is specified in RFC 9110' in said[3]
    assert [request.status for request in simulator.requests] == [503, 200, 200]
    assert {request.model for request in simulator.requests} == {'gemini-flash-latest'}


def test_the_production_templates_pass_on_and_time_out(simulator: Any) -> None:
    simulator.use(faults=[Fault('stall_first', after=1)])
    said = run('production', simulator, APP_ENV='prod', AWS_REGION='eu-west-1')
    assert 'all is well' in said[0]
    assert said[1] == 'the second one took too long'
