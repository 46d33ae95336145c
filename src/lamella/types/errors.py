"""Every error that Lamella raises.

Exception
└─ LamellaError(status, message)      anything that failed; `status` is one of the 17 gRPC names
   ├─ ConfigError                     wrong settings, found when something is built (also a ValueError)
   ├─ UnknownNameError                no model, tool or layer of that name (also a LookupError)
   ├─ Rejected                        a layer refused; `by` says which
   ├─ OutputError                     the answer does not fit the asked-for shape
   └─ ToolError                       a tool's failure that the model may read and correct
BaseException
└─ ControlFlow                        not failures, and out of reach of `except Exception`
   ├─ Interrupt                       a tool call waits for a decision
   └─ StopRun(reason, message)        ends the run cleanly, with a response
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

from lamella.types.base import Data
from lamella.types.responses import ModelResponse, StopReason

Status = Literal[
    'OK',
    'CANCELLED',
    'UNKNOWN',
    'INVALID_ARGUMENT',
    'DEADLINE_EXCEEDED',
    'NOT_FOUND',
    'ALREADY_EXISTS',
    'PERMISSION_DENIED',
    'RESOURCE_EXHAUSTED',
    'FAILED_PRECONDITION',
    'ABORTED',
    'OUT_OF_RANGE',
    'UNIMPLEMENTED',
    'INTERNAL',
    'UNAVAILABLE',
    'DATA_LOSS',
    'UNAUTHENTICATED',
]
STATUSES: tuple[str, ...] = get_args(Status)
TRANSIENT: tuple[Status, ...] = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED', 'INTERNAL')


class Attempt(Data, frozen=True):
    """One failed try: which model, how it failed, how long it took."""

    model: str
    status: Status
    duration_s: float
    message: str = ''


class LamellaError(Exception):
    """A failure with a status that layers can act on.

    `details` are facts for programs (an HTTP status, a request id); `retry_after_s` is the provider's own word on when to
    come back; `attempts` lists every failed try of the run; `partial` is what had arrived of the answer.
    """

    def __init__(
        self,
        status: Status,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
        attempts: Sequence[Attempt] = (),
        partial: ModelResponse | None = None,
    ) -> None:
        if status not in STATUSES:
            raise ValueError(f'unknown status {status!r}{did_you_mean(str(status), STATUSES)}')
        super().__init__(message)
        self.status: Status = status
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after_s = retry_after_s
        self.attempts = tuple(attempts)
        self.partial = partial

    def __str__(self) -> str:
        return f'{self.status}: {self.message}'

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[LamellaError], args: tuple[Any, ...], state: dict[str, Any]) -> LamellaError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(LamellaError, ValueError):
    """Settings that cannot work. The message lists every problem found."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__('INVALID_ARGUMENT', message, **facts)


class UnknownNameError(LamellaError, LookupError):
    """Nothing of that name is registered. The message offers the nearest names."""

    def __init__(self, kind: str, name: str, known: Sequence[str], hint: str = '') -> None:
        message = f'unknown {kind} {name!r}{did_you_mean(name, known)}'
        stop = '' if message.endswith('?') else '.'
        super().__init__('NOT_FOUND', f'{message}{stop} {hint}' if hint else message)
        self.kind, self.name, self.known = kind, name, tuple(known)


class Rejected(LamellaError):
    """A layer refused the call. `by` is the layer, or its name."""

    def __init__(self, message: str, *, by: Any, status: Status = 'RESOURCE_EXHAUSTED', **facts: Any) -> None:
        self.by: str = by if isinstance(by, str) else getattr(by, 'name', type(by).__name__)
        super().__init__(status, f'{message} (refused by {self.by})', **facts)


class OutputError(LamellaError):
    """The model answered, but not in the asked-for shape. `partial` is its whole answer."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__('DATA_LOSS', message, **facts)


class ToolError(LamellaError):
    """Raised by a tool to tell the model what went wrong; the run goes on with an error result."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__('FAILED_PRECONDITION', message, **facts)

    def __str__(self) -> str:
        return self.message


class ControlFlow(BaseException):
    """Not a failure: a signal to the engine, which a layer's `except Exception` must not catch."""


class Interrupt(ControlFlow):
    """This tool call waits for somebody's decision. `metadata` is shown to whoever decides."""

    def __init__(self, message: str = '', metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class StopRun(ControlFlow):
    """End the run with what there is. `response` replaces the last answer when given."""

    def __init__(self, reason: StopReason, message: str = '', *, response: ModelResponse | None = None) -> None:
        super().__init__(reason, message)
        self.reason: StopReason = reason
        self.message = message
        self.response = response

    def __str__(self) -> str:
        return f'{self.reason}: {self.message}'


def ungrouped(raised: BaseException) -> BaseException:
    """What a task group's exception stands for, when that is one thing; anything else as it is.

    Signals to the engine come out of their group, a StopRun before an Interrupt. A failure is never lost to a signal: beside
    one, a single LamellaError comes out, and of other failures the group without the signals.
    """
    if not isinstance(raised, BaseExceptionGroup):
        return raised
    signals, failures = raised.split(ControlFlow)
    if failures is None:
        return min(_leaves(signals), key=lambda signal: not isinstance(signal, StopRun))
    first, *others = _leaves(failures)
    return first if isinstance(first, LamellaError) and not others else failures


def _leaves(group: BaseException | None) -> Iterator[BaseException]:
    if not isinstance(group, BaseExceptionGroup):
        yield from () if group is None else (group,)
        return
    for inner in group.exceptions:
        yield from _leaves(inner)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`: did you mean 'x'?` for the nearest known names, or a list of what there is, or nothing."""
    by_lower = {k.lower(): k for k in known}
    near = [by_lower[k] for k in get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)]
    if near:
        return f': did you mean {" or ".join(map(repr, near))}?'
    if not known:
        return ''
    shown = ', '.join(map(repr, list(known)[:12]))
    return f'; known: {shown}{" …" if len(known) > 12 else ""}'
