"""Errors with nothing in them that nobody may see."""

import traceback
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lamella.middleware._clean_errors import cleaned, told
from lamella.middleware._walk import Walk
from lamella.types import Attempt, Interrupt, LamellaError, ModelResponse, Rejected, StopRun, ToolError

BOB = ''.join(['b', 'ob'])  # which no line of a traceback shows
walk = Walk(lambda text: text.replace('bob', '[X]'))


def everything(error: BaseException) -> str:
    """What a log would show of an error: its text, its parts, its chain, its notes."""
    shown = ''.join(traceback.format_exception(error))
    return shown + repr(error) + repr(error.args) + repr(getattr(error, '__dict__', {}))


def raised(error: BaseException, cause: BaseException | None = None) -> Any:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def validation_error() -> ValidationError:
    try:
        TypeAdapter(int).validate_python(BOB)
    except ValidationError as error:
        return error
    raise AssertionError


def lamella_error() -> LamellaError:
    partial = ModelResponse.text_of('bob')
    return LamellaError(
        'INTERNAL',
        'bob failed',
        details={'who': ['bob']},
        partial=partial,
        attempts=[Attempt('m', 'INTERNAL', 1.0, 'bob')],
    )


def noted(error: Exception) -> Exception:
    error.add_note('see bob')
    return error


MAKERS = {
    'lamella': lamella_error,
    'rejected': lambda: Rejected('bob may not', by='policy'),
    'tool error': lambda: ToolError('no account for bob'),
    'value error': lambda: ValueError('bob', {'a': 'bob'}),
    'key error': lambda: KeyError('bob'),
    'os error': lambda: FileNotFoundError(2, 'No such file', '/srv/bob'),
    'validation error': validation_error,
    'noted': lambda: noted(ValueError('x')),
    'unicode': lambda: UnicodeEncodeError('ascii', 'bob\u00e9', 3, 4, 'bob'),
    'group': lambda: ExceptionGroup('bob', [ValueError('bob')]),
    'caused': lambda: raised(LamellaError('INTERNAL', 'x'), ValueError('bob')),
    'caused twice': lambda: raised(ValueError('x'), raised(ToolError('bob'), KeyError('bob'))),
    'caused by a stubborn one': lambda: raised(LamellaError('INTERNAL', 'x'), validation_error()),
}


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS.keys())
def test_nothing_is_left_in_an_error_that_leaves(make: Any) -> None:
    error = make()
    assert 'bob' in everything(error)
    clean = cleaned(error, walk)
    assert 'bob' not in everything(clean)
    if isinstance(error, LamellaError):
        assert clean is error
        assert (clean.status, type(clean)) == (error.status, type(error))


@pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS.keys())
def test_listeners_are_told_of_one_like_it_and_the_error_stays_as_it_is(make: Any) -> None:
    error = make()
    heard = told(error, walk)
    assert heard is not error
    assert 'bob' not in everything(heard)
    assert type(heard).__name__ == type(error).__name__
    assert 'bob' in everything(error)
    if isinstance(error, LamellaError):
        assert isinstance(heard, type(error))


@pytest.mark.parametrize('error', [ValueError('eve'), LamellaError('INTERNAL', 'eve', details={'a': 1}), KeyError()])
def test_an_error_with_nothing_in_it_is_left_alone(error: Exception) -> None:
    assert told(error, walk) is error
    assert cleaned(error, walk) is error


def test_signals_are_cleaned_and_stay_signals() -> None:
    interrupt = Interrupt('send to bob?', {'to': 'bob'})
    assert cleaned(interrupt, walk) is interrupt
    assert (interrupt.message, interrupt.metadata) == ('send to [X]?', {'to': '[X]'})
    stop = StopRun('guardrail', 'bob', response=ModelResponse.text_of('bob'))
    assert cleaned(stop, walk) is stop
    assert 'bob' not in everything(stop)
    assert stop.response == ModelResponse.text_of('[X]')


def test_an_error_that_cannot_be_shown_is_replaced() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError('bob')

    clean = cleaned(Odd(), walk)
    assert isinstance(clean, LamellaError)
    assert clean.message == 'Odd: (withheld: RuntimeError)'


def test_a_circle_of_causes_has_an_end() -> None:
    one, two = ValueError('bob'), ValueError('bob')
    one.__cause__, two.__cause__ = two, one
    cleaned(one, walk)
    assert (str(one), str(two)) == ('[X]', '[X]')
