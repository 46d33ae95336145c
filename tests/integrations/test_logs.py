"""Events as log records, for `logging` and for structlog."""

import logging
from typing import Any

import pytest
import structlog

from lamella.integrations.logs import to_logging, to_structlog
from lamella.middleware import Retry
from lamella.types import Finished, LamellaError, TextDelta, Usage
from tests.middleware.kit import down, world

SECRET = 'sk-proj-abcdefgh12345678'


def script() -> dict[str, Any]:
    return {'v/a': [down(message=f'bad key {SECRET}'), [TextDelta('hi'), Finished('stop', Usage(3, 2, 5))]]}


async def test_each_event_is_a_record_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, 'lamella')
    app = world(script())
    app.ai.sinks = (to_logging(),)
    await app.ai.generate(prompt=f'the question {SECRET}', use=[Retry(initial_delay_ms=0)])
    told = [(record.levelname, record.lamella['event']) for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [
        ('INFO', 'run.start'),
        ('DEBUG', 'turn.start'),
        ('DEBUG', 'model.start'),
        ('WARNING', 'model.error'),
        ('INFO', 'retry.wait'),
        ('DEBUG', 'model.start'),
        ('INFO', 'model.end'),
        ('DEBUG', 'turn.end'),
        ('INFO', 'run.end'),
    ]
    failed, ended = caplog.records[3], caplog.records[6]
    assert failed.lamella['error'] == 'bad key ***'  # type: ignore[attr-defined]
    assert failed.lamella['error_status'] == 'UNAVAILABLE'  # type: ignore[attr-defined]
    assert ended.lamella['input_tokens'] == 3  # type: ignore[attr-defined]
    assert SECRET not in caplog.text
    assert 'the question' not in caplog.text


async def test_a_level_that_is_off_costs_no_record(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger('mine')
    caplog.set_level(logging.ERROR, 'mine')
    app = world({'v/a': [down()]})
    app.ai.sinks = (to_logging(logger),)
    with pytest.raises(LamellaError):
        await app.ai.generate(prompt='x')
    assert [(record.name, record.levelname) for record in caplog.records] == [('mine', 'ERROR')]


async def test_structlog_gets_names_and_keys() -> None:
    app = world(script())
    with structlog.testing.capture_logs() as logs:
        app.ai.sinks = (to_structlog(structlog.get_logger()),)
        await app.ai.generate_stream(prompt='x', use=[Retry(initial_delay_ms=0)]).response
    by_name = {entry['event']: entry for entry in logs}
    assert by_name['model.error']['log_level'] == 'warning'
    assert by_name['retry.wait']['wait_s'] == 0
    assert by_name['run.end']['stop_reason'] == 'final'
    assert len({entry['run_id'] for entry in logs}) == 1
    assert SECRET not in repr(logs)
