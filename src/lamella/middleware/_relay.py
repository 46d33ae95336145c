"""Several attempts at one answer, passed on as one stream: it begins once, ends once, and takes nothing back in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lamella.core.middleware import AnyAnswer
from lamella.core.params import Continuing, ModelHookParams
from lamella.types import (
    JSON,
    Finished,
    LamellaError,
    ModelResponse,
    Restarted,
    StreamPart,
    Usage,
    add_usage,
    is_content,
)

MAX_HELD = 64


class Relay:
    """Stands between the attempts of one call and its reader.

    What comes before the first content of an attempt is held back, so that an attempt that fails before it leaves no trace;
    `shown` says that content has left. While `open`, a piece of text may be passed on without asking. `notes` and `paid` are
    added to the metadata and the usage of the end.
    """

    __slots__ = ('_held', '_restarts', 'notes', 'open', 'paid', 'shown')

    def __init__(self, on_partial: Literal['raise', 'restart']) -> None:
        self._restarts = on_partial == 'restart'
        self._held: list[StreamPart] = []
        self.open = self.shown = False
        self.notes: JSON = {}
        self.paid: Usage | None = None

    def take(self, part: StreamPart) -> Sequence[StreamPart]:
        """What may be passed on now that this part has come."""
        kind = type(part)
        if kind is Restarted:
            return self._void(part)
        if kind is Finished:
            return (*self.rest(), self._ended(part))  # type: ignore[arg-type]
        if self.shown:
            return (part,)
        self._held.append(part)
        if is_content(part):
            self.shown = self.open = True
        elif len(self._held) <= MAX_HELD:
            return ()
        return self.rest()

    def rest(self) -> Sequence[StreamPart]:
        """What is still held back when the attempt is at its end."""
        held, self._held = self._held, []
        self.shown = self.shown or bool(held)
        return held

    def _void(self, part: StreamPart) -> Sequence[StreamPart]:
        """An inner layer started over: a reader who saw nothing need not know."""
        self._held.clear()
        if not self.shown:
            return ()
        self.open = self.shown = False
        return (part,)

    def _ended(self, end: Finished) -> Finished:
        self.shown = True
        if not self.notes and self.paid is None:
            return end
        return end.replace(usage=add_usage(self.paid, end.usage), metadata={**(end.metadata or {}), **self.notes})

    @property
    def stuck(self) -> bool:
        """Whether a failed attempt can only be passed on as an error."""
        return self.shown and not self._restarts

    def failed(self, error: LamellaError) -> None:
        """The attempt ended with this error, and another one follows."""
        self._held.clear()
        self.paid = add_usage(self.paid, paid_for(error))

    def give_up(self, error: LamellaError) -> None:
        """The error is passed on: the last chance to add to it."""
        with_debts(error, self.paid)

    def turn(self, reason: str, model: str) -> Sequence[StreamPart]:
        """What the reader must be told before the next attempt, by `model`, begins."""
        if not self.shown:
            return ()
        self.open = self.shown = False
        return (Restarted(reason, model),)

    def ask(self, params: ModelHookParams) -> ModelHookParams:
        """What the next attempt is asked. What the last one said is void or was never seen, so that its leave is not used up."""
        return params if params.continues is None else params.replace(continues=Continuing())


def paid_for(error: LamellaError) -> Usage | None:
    """What a failed attempt cost, where the error tells."""
    return error.partial.usage if error.partial is not None else None


def with_debts(error: LamellaError, paid: Usage | None) -> None:
    """Let the error that is raised tell what the attempts before it cost, too."""
    if paid is not None:
        partial = error.partial or ModelResponse(finish_reason='unknown')
        error.partial = partial.replace(usage=add_usage(paid, partial.usage))


def with_notes(response: AnyAnswer, notes: JSON, paid: Usage | None) -> AnyAnswer:
    """A whole answer with what a relay would add to the end of a stream."""
    if not notes and paid is None:
        return response
    return response.replace(usage=add_usage(paid, response.usage), metadata={**response.metadata, **notes})
