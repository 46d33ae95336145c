"""Sessions: what a conversation remembers between its turns, in a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from pydantic_core import to_jsonable_python

from lamella.core.artifacts import Artifacts
from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.holds import Hold, enter
from lamella.core.pending import pending_of
from lamella.core.ports import Store
from lamella.core.session_record import Head, SessionRecord, check_id, lost
from lamella.types import ConfigError, Message, Rejected, ToolRequestPart

OnBusy = Literal['wait', 'refuse']


class SessionState:
    """Values of a session by name: anything that JSON can say, 256 KiB in all. What is written is written at once."""

    def __init__(self, record: SessionRecord, fence: int | None, field: Literal['state', 'notes'] = 'state') -> None:
        self._record, self._fence, self._field = record, fence, field

    async def _values(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = getattr(await self._record.head(), self._field)
        return values

    async def get(self, key: str, default: Any = None) -> Any:
        """The value, or `default`."""
        return (await self._values()).get(key, default)

    async def put(self, key: str, value: Any) -> None:
        """Write, whatever was there. `value` is a JSON value or a pydantic model. Raises OUT_OF_RANGE for too much."""
        kept = _json(key, value)
        await self._change(lambda state: {**state, _name(key): kept})

    async def update(self, key: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        """Replace the value by `change(value)` in one atomic step, and return it. `change` may be called more than once."""

        def changed(state: Mapping[str, Any]) -> Mapping[str, Any]:
            return {**state, _name(key): _json(key, change(state.get(key, default)))}

        return (await self._change(changed))[key]

    async def delete(self, key: str) -> None:
        """Remove the value, if there is one."""
        await self._change(lambda state: {other: value for other, value in state.items() if other != key})

    async def all(self) -> dict[str, Any]:
        """Every value by its name."""
        return dict(await self._values())

    async def _change(self, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Mapping[str, Any]:
        def changed(head: Head) -> Head:
            return head.replace(**{self._field: change(getattr(head, self._field))})

        values: Mapping[str, Any] = getattr(await self._record.change(changed, self._fence), self._field)
        return values


class Session:
    """A conversation that is kept: `history`, `state` and `artifacts`, under an id, in a store. Made by `ai.session(id)`.

    Give it to `generate(session=…)`: the call goes on from the history and adds what happened to it. One turn at a time:
    `on_busy` says what a second one does, `wait` (in order, at most `wait_s` seconds) or `refuse`. A turn holds the session
    for `lease_s` seconds and renews that while it is alive. `ttl_s` ends a session that long after its last turn.

    `notes` are for layers: values like `state`, apart from what tools and programs write there.

    Ids may be anything, also from users; two different texts are two sessions. Whoever knows an id has the session: make
    sure that it belongs to the user who asks. Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        id: str,
        store: Store,
        *,
        clock: Clock = SYSTEM_CLOCK,
        on_busy: OnBusy = 'wait',
        wait_s: float = 30.0,
        lease_s: float = 30.0,
        ttl_s: float | None = None,
    ) -> None:
        if on_busy not in get_args(OnBusy):
            raise ConfigError(f"on_busy={on_busy!r}: use 'wait' or 'refuse'")
        self.id, self.store, self.clock = check_id(id), store, clock
        self.on_busy: OnBusy = on_busy
        self.wait_s = _seconds('wait_s', wait_s, least=0.0)
        self.lease_s = _seconds('lease_s', lease_s, least=1.0)
        self.record = SessionRecord(id, store, None if ttl_s is None else _seconds('ttl_s', ttl_s, least=60.0))
        self._bind(None)

    def _bind(self, fence: int | None) -> None:
        self._fence = fence
        self.state = SessionState(self.record, fence)
        self.notes = SessionState(self.record, fence, 'notes')
        self.artifacts = Artifacts(self.record, self.clock, fence)

    def __repr__(self) -> str:
        return f'Session({self.id[:80]!r})'

    @property
    def key(self) -> str:
        """The session's name in its store: a hash, so that no id can reach into another key."""
        return self.record.key

    @property
    def is_held(self) -> bool:
        """Whether this is `ctx.session`: the session as the turn that holds it sees it."""
        return self._fence is not None

    async def history(self) -> tuple[Message, ...]:
        """The messages so far. During a turn: those before it, and of it what its tools have already done."""
        return await self.record.history()

    async def waiting(self) -> tuple[ToolRequestPart, ...]:
        """The tool calls that wait for a decision before the conversation can go on; none when it can."""
        pending = pending_of(await self.history())
        return () if pending is None else pending.open

    async def delete(self) -> None:
        """Remove history, state and artifacts, when no turn is running: `on_busy` holds here too."""
        hold = await self.hold()
        try:
            async with hold:
                await self.record.take_over(hold.lease.token)
                await self.artifacts.erase()
                await self.record.erase(hold.lease.token)
        finally:
            await hold.release()

    async def hold(self) -> Hold:
        """For the engine: the session for one turn. Raises Rejected (ABORTED) when another turn has it for too long."""
        wait_s = self.wait_s if self.on_busy == 'wait' else 0.0
        lease = await enter(self.store, self.key, self.clock, lease_s=self.lease_s, wait_s=wait_s)
        if lease is None:
            waited = f', also after {wait_s:g} s' if wait_s else ''
            raise Rejected(
                f'session {self.id[:80]!r} is busy with another turn{waited}', by='session', status='ABORTED'
            )
        return Hold(self.store, lease, self.clock, self.lease_s, lambda: lost(self.id))

    def held(self, fence: int) -> Session:
        """For the engine: this session as the turn with that fencing token may write it."""
        held = object.__new__(type(self))
        held.__dict__.update(self.__dict__)
        held._bind(fence)
        return held


def _name(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise ConfigError(f'a name in the state is a text, not {key!r}')
    return key


def _json(key: str, value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except (ValueError, TypeError) as error:
        raise ConfigError(f'state {key!r} is a {type(value).__name__}, which is not JSON: {error}') from error


def _seconds(field: str, given: object, least: float) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not least <= given < float('inf'):
        raise ConfigError(f'{field}={given!r}: give a number of seconds, at least {least:g}')
    return given
