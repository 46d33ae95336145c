"""What `FallbackPlugin` remembers, and what for: attempts of a context, and the model call that is going on in it.

The ADK makes a new context object for every callback. What stays the same is the invocation (its id), the agent and the branch,
which tells parallel agents apart; and, within one agent's run, the invocation context itself.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

Key: TypeAlias = tuple[Any, ...]


def key_of(callback_context: Any) -> Key:
    """The same for every callback of one agent in one invocation and branch, and for no other. The invocation comes first."""
    invocation = getattr(callback_context, 'invocation_id', None)
    agent = getattr(callback_context, 'agent_name', None)
    branch = getattr(callback_context, 'branch', None)
    scope = getattr(callback_context, 'isolation_scope', None)
    return (invocation, agent, branch, scope)


def invocation_of(callback_context: Any) -> Any:
    """The invocation context behind a callback's, or `None` for a double that has none. The public door makes a copy each time,
    which is nobody's to be known by."""
    own = getattr(callback_context, '_invocation_context', None)
    if own is not None:
        return own
    get = getattr(callback_context, 'get_invocation_context', None)
    return get() if callable(get) else None


@dataclass(slots=True)
class ModelCall:
    """One call of a model, from `before_model_callback` on. `spoke` says that partial content of it has gone out."""

    request: Any
    original: str | None
    kept: Any = None  # of the invocation, so that its id stays its own
    spoke: bool = False


class Memory:
    """Attempts and calls by context, forgotten with the invocation; of those whose end nobody tells, the oldest go."""

    __slots__ = ('_attempts', '_calls', '_limit')

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._attempts: dict[Key, int] = {}
        self._calls: dict[Key, ModelCall] = {}

    def __len__(self) -> int:
        return len(self._attempts) + len(self._calls)

    def begin(self, callback_context: Any, request: Any) -> None:
        invocation = invocation_of(callback_context)
        key = (*key_of(callback_context), id(invocation))
        call = ModelCall(request, request.model, self._held(invocation, key))
        _put(self._calls, key, call, self._limit)

    def call(self, callback_context: Any) -> ModelCall | None:
        """The call that is going on, of which this is a callback."""
        return self._calls.get((*key_of(callback_context), id(invocation_of(callback_context))))

    def _held(self, invocation: Any, key: Key) -> Any:
        """Of a run that is cancelled the ADK tells nothing: its call goes when its invocation does."""
        try:
            return weakref.ref(invocation, lambda gone: self._calls.pop(key, None))
        except TypeError:  # a double
            return invocation

    def count(self, callback_context: Any) -> int:
        """One attempt more in this context: its number, from 1."""
        key = key_of(callback_context)
        number = self._attempts.get(key, 0) + 1
        _put(self._attempts, key, number, self._limit)
        return number

    def forget(self, invocation: Any) -> None:
        for kept in (self._attempts, self._calls):
            for key in [key for key in list(kept) if key[0] == invocation]:
                kept.pop(key, None)


def _put(kept: dict[Key, Any], key: Key, value: Any, limit: int) -> None:
    """As the newest; beyond the limit the oldest goes."""
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > limit:
        kept.pop(next(iter(kept)), None)
