"""The error tree: statuses, what each error knows, and that it travels."""

import copy
import pickle
from contextlib import suppress
from typing import Any, get_args

import pytest

from lamella.types import (
    STATUSES,
    TRANSIENT,
    Attempt,
    ConfigError,
    ControlFlow,
    Interrupt,
    LamellaError,
    ModelResponse,
    OutputError,
    Rejected,
    Status,
    StopRun,
    ToolError,
    UnknownNameError,
    did_you_mean,
    ungrouped,
)

ERRORS: list[LamellaError] = [
    LamellaError(
        'UNAVAILABLE', 'down', details={'http_status': 503}, retry_after_s=2, attempts=[Attempt('m', 'ABORTED', 1)],
        partial=ModelResponse.text_of('half'),
    ),
    ConfigError('wrong', details={'field': 'x'}),
    UnknownNameError('model', 'gpt-5x', ['gpt-5', 'other'], 'Register it'),
    Rejected('over', by='budget', retry_after_s=3),
    OutputError('no JSON', partial=ModelResponse.text_of('x')),
    ToolError('the bank is closed'),
]  # fmt: skip


class Mine(LamellaError):
    """A user's own, with a signature of its own."""

    def __init__(self, tenant: str) -> None:
        super().__init__('PERMISSION_DENIED', f'{tenant} may not')
        self.tenant = tenant


def test_there_are_the_seventeen_statuses_of_grpc() -> None:
    assert len(STATUSES) == 17
    assert get_args(Status) == STATUSES
    assert set(TRANSIENT) < set(STATUSES)


@pytest.mark.parametrize('status', STATUSES)
def test_an_error_shows_its_status_and_message(status) -> None:
    error = LamellaError(status, 'it broke')
    assert (error.status, error.message, str(error)) == (status, 'it broke', f'{status}: it broke')


@pytest.mark.parametrize('status', ['UNAVALABLE', 'unavailable', '', None, 503, []], ids=repr)
def test_a_wrong_status_is_a_value_error_that_says_so(status) -> None:
    with pytest.raises(ValueError, match='unknown status') as caught:
        LamellaError(status, 'x')
    assert not isinstance(caught.value, LamellaError)


def test_a_misspelled_status_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'UNAVAILABLE'"):
        LamellaError('UNAVALABLE', 'x')  # type: ignore[arg-type]


def same(error: LamellaError, other: LamellaError) -> None:
    assert type(other) is type(error)
    assert other.args == error.args
    assert vars(other) == vars(error)
    assert str(other) == str(error)


@pytest.mark.parametrize('error', [*ERRORS, Mine('acme')], ids=lambda error: type(error).__name__)
def test_an_error_pickles_and_copies_with_everything_it_knows(error) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        same(error, pickle.loads(pickle.dumps(error, protocol)))
    same(error, copy.copy(error))
    same(error, copy.deepcopy(error))


@pytest.mark.parametrize(
    ('error', 'status', 'also'),
    [
        (ERRORS[1], 'INVALID_ARGUMENT', ValueError), (ERRORS[2], 'NOT_FOUND', LookupError),
        (ERRORS[3], 'RESOURCE_EXHAUSTED', Exception), (ERRORS[4], 'DATA_LOSS', Exception),
        (ERRORS[5], 'FAILED_PRECONDITION', Exception),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)  # fmt: skip
def test_each_kind_has_its_status_and_is_what_python_calls_it(error, status, also) -> None:
    assert error.status == status
    assert isinstance(error, also)


def test_a_refusal_names_the_layer_however_it_is_given() -> None:
    class Budget:
        name = 'budget'

    class Other:
        pass

    assert Rejected('over', by=Budget()).by == 'budget'
    assert Rejected('over', by=Other()).by == 'Other'
    assert str(Rejected('over', by='me', status='PERMISSION_DENIED')) == 'PERMISSION_DENIED: over (refused by me)'


def test_the_text_of_a_tool_error_is_for_the_model_and_has_no_status() -> None:
    assert str(ToolError('the bank is closed')) == 'the bank is closed'


def test_an_unknown_name_offers_the_nearest_and_a_hint() -> None:
    error = ERRORS[2]
    assert isinstance(error, UnknownNameError)
    assert error.message == "unknown model 'gpt-5x': did you mean 'gpt-5'? Register it"
    assert (error.kind, error.name, error.known) == ('model', 'gpt-5x', ('gpt-5', 'other'))
    assert UnknownNameError('tool', 'x', []).message == "unknown tool 'x'"
    assert UnknownNameError('tool', 'zzz', ['a', 'b'], 'Hint').message == "unknown tool 'zzz'; known: 'a', 'b'. Hint"


@pytest.mark.parametrize('signal', [Interrupt('wait', {'a': 1}), StopRun('loop', 'enough')], ids=repr)
def test_control_flow_is_out_of_reach_of_except_exception(signal) -> None:
    assert isinstance(signal, ControlFlow)
    assert not isinstance(signal, Exception)

    def swallows() -> None:
        with suppress(Exception):
            raise signal

    with pytest.raises(type(signal)):
        swallows()


@pytest.mark.parametrize(
    'signal', [Interrupt('wait', {'a': 1}), StopRun('loop', 'enough', response=ModelResponse())], ids=repr
)
def test_control_flow_pickles_too(signal) -> None:
    other = pickle.loads(pickle.dumps(signal))
    assert vars(other) == vars(signal)
    assert str(other) == str(signal)


@pytest.mark.parametrize(
    ('name', 'known', 'wanted'),
    [
        ('retyr', ['retry', 'fallback'], ": did you mean 'retry'?"),
        ('RETRY', ['Retry'], ": did you mean 'Retry'?"),
        ('zzz', ['a', 'b'], "; known: 'a', 'b'"),
        ('zzz', [], ''),
        ('zzz', [f'k{n}' for n in range(20)], '; known: ' + ', '.join(f"'k{n}'" for n in range(12)) + ' …'),
    ],
)
def test_the_nearest_names_are_offered_or_the_list_or_nothing(name: str, known: list[str], wanted: str) -> None:
    assert did_you_mean(name, known) == wanted


def test_details_and_attempts_are_the_errors_own() -> None:
    details: dict[str, Any] = {'a': 1}
    attempts = [Attempt('m', 'ABORTED', 1)]
    error = LamellaError('ABORTED', 'x', details=details, attempts=attempts)
    details['b'] = 2
    attempts.clear()
    assert error.details == {'a': 1}
    assert len(error.attempts) == 1


STOP, WAIT, DOWN = StopRun('loop'), Interrupt('sure?'), LamellaError('UNAVAILABLE', 'down')


@pytest.mark.parametrize(
    ('inside', 'wanted'),
    [([STOP], STOP), ([WAIT], WAIT), ([WAIT, STOP], STOP), ([DOWN], DOWN), ([STOP, WAIT, DOWN], DOWN)],
    ids=repr,
)
def test_what_a_task_group_wrapped_comes_out_of_it(inside: list[BaseException], wanted: BaseException) -> None:
    assert ungrouped(BaseExceptionGroup('tasks', inside)) is wanted
    assert ungrouped(BaseExceptionGroup('outer', [BaseExceptionGroup('tasks', inside)])) is wanted


def test_failures_that_are_several_or_foreign_stay_in_their_group_without_the_signals() -> None:
    for failures in ([ValueError('a')], [DOWN, LamellaError('INTERNAL', 'too')]):
        left = ungrouped(BaseExceptionGroup('tasks', [STOP, *failures, WAIT]))
        assert isinstance(left, ExceptionGroup)
        assert list(left.exceptions) == failures


def test_what_is_no_group_is_what_it_is() -> None:
    assert ungrouped(STOP) is STOP
