"""How a session lies in a store: a small head that says what is true, and a log of what was said.

An entry of the log counts when the head's chain leads to it: each names the one before. A turn appends its entry and then
moves the head with one comparison, so that a turn which died in between, or which lost its hold, leaves nothing behind.
The head carries the fencing token of the turn that holds the session: whoever has an older one writes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamella.core.packing import hashed, pack, unpack
from lamella.core.ports import Entry, Store
from lamella.types import ConfigError, Data, LamellaError, Message

MAX_STATE_BYTES = 262_144
_PAGE = 200
_GONE_S = 0.001


class Head(Data, frozen=True):
    """What is true of a session now. `fence` is the newest turn's token, `last` the newest entry of the log that counts,
    `count` the number of messages up to it."""

    id: str = ''
    fence: int = 0
    log: str = ''
    last: int = 0
    count: int = 0
    has_artifacts: bool = False
    state: Mapping[str, Any] = {}
    notes: Mapping[str, Any] = {}


class Said(Data, frozen=True):
    """One entry of the log: the first `kept` messages of the history stay, and these follow. `before` is the entry before."""

    before: int
    kept: int
    messages: tuple[Message, ...]
    at_s: float = 0.0
    run: str = ''


class SessionRecord:
    """One session's head and log. What was read is kept, so that only what is new is read again."""

    def __init__(self, id: str, store: Store, ttl_s: float | None) -> None:
        self.id, self.store, self.ttl_s = id, store, ttl_s
        self.key = f'session:{hashed(id)}'
        self._known: tuple[str, int, tuple[Message, ...]] = ('', 0, ())

    async def head(self) -> Head:
        """The head as it is; an empty one for a session that nobody has used yet."""
        return (await self._stored_head())[0]

    async def _stored_head(self) -> tuple[Head, int]:
        stored = await self.store.get(f'{self.key}:head')
        if stored is None:
            return Head(self.id), 0
        return unpack(stored.value, Head, f'the session {self.id[:80]!r}'), stored.version

    async def change(self, change: Callable[[Head], Head], fence: int | None) -> Head:
        """Move the head in one atomic step. With a `fence`, only while that turn holds the session: raises ABORTED when it
        has lost it. Raises OUT_OF_RANGE when the state becomes too large."""
        while True:
            head, version = await self._stored_head()
            if fence is not None and head.fence != fence:
                raise lost(self.id)
            changed = change(head)
            for field in ('state', 'notes'):
                if getattr(changed, field) is not getattr(head, field):
                    _check_size(self.id, field, getattr(changed, field))
            value = pack(changed, f'the state of session {self.id[:80]!r}')
            if await self.store.compare_and_put(f'{self.key}:head', version, value, expire_s=self.ttl_s) is not None:
                return changed

    async def take_over(self, token: int) -> tuple[Head, tuple[Message, ...]]:
        """Make this token the session's fence. The head and the history. Raises ABORTED when a newer token is there."""

        def take(head: Head) -> Head:
            if head.fence > token:
                raise lost(self.id)
            return head.replace(id=self.id, fence=token, log=head.log or secrets.token_hex(8))

        head = await self.change(take, None)
        history = await self.history(head)
        if head.last and not history:  # the log had expired
            head = await self.change(lambda now: now.replace(log=secrets.token_hex(8), last=0, count=0), token)
        return head, history

    async def history(self, head: Head | None = None) -> tuple[Message, ...]:
        """All messages that count, in order."""
        head = head or await self.head()
        log, last, messages = self._known
        if not head.last:
            self._known = (head.log, 0, ())
            return ()
        if log != head.log or last > head.last:
            last, messages = 0, ()
        if last < head.last:
            chain = await self._chain(head, last)
            if chain is None and last:
                last, messages = 0, ()
                chain = await self._chain(head, 0)
            messages = _told(messages, chain or ())
        self._known = (head.log, head.last, messages)
        return messages

    async def _chain(self, head: Head, after: int) -> list[Said] | None:
        """The entries that count behind this position; `None` when they do not lead back to it (or are gone)."""
        entries: dict[int, Entry] = {}
        at = after
        while at < head.last:
            page = await self.store.read(f'{self.key}:log:{head.log}', after=at, limit=min(_PAGE, head.last - at))
            if not page:
                break
            entries.update((entry.position, entry) for entry in page)
            at = page[-1].position
        chain: list[Said] = []
        position = head.last
        while position > after:
            entry = entries.get(position)
            if entry is None:
                return None
            said = unpack(entry.value, Said, f'the history of session {self.id[:80]!r}')
            chain.append(said)
            position = said.before
        return chain[::-1] if position == after else None

    async def append(self, kept: int, messages: Sequence[Message], *, fence: int, at_s: float, run: str) -> None:
        """Add messages behind the first `kept` of the history, in one atomic step. Raises ABORTED without the hold."""
        head = await self.head()
        if head.fence != fence:
            raise lost(self.id)
        said = Said(head.last, kept, tuple(messages), at_s, run)
        position = await self._write(head.log, said)
        if position <= head.last:  # the log had expired: a new one has begun
            said = said.replace(before=0)
            position = await self._write(head.log, said)

        def move(now: Head) -> Head:
            return now.replace(last=position, count=kept + len(said.messages))

        moved = await self.change(move, fence)
        log, last, known = self._known
        if (log, last) == (head.log, head.last):
            self._known = (moved.log, moved.last, _told(known, (said,)))

    async def _write(self, log: str, said: Said) -> int:
        value = pack(said, f'a message of session {self.id[:80]!r}')
        return await self.store.append(f'{self.key}:log:{log}', value, expire_s=self.ttl_s)

    async def erase(self, fence: int) -> None:
        """Remove head and log. Raises ABORTED without the hold."""
        head, version = await self._stored_head()
        if head.fence != fence:
            raise lost(self.id)
        if head.log and head.last:
            await self.store.append(f'{self.key}:log:{head.log}', b'', expire_s=_GONE_S)
        if not await self.store.delete(f'{self.key}:head', version=version):
            raise lost(self.id)


def _told(messages: tuple[Message, ...], chain: Sequence[Said]) -> tuple[Message, ...]:
    if not chain:
        return messages
    told = list(messages)
    for said in chain:
        del told[said.kept :]
        told += said.messages
    return tuple(told)


def _check_size(id: str, field: str, values: Mapping[str, Any]) -> None:
    size = len(pack(values, f'the {field} of session {id[:80]!r}'))
    if size > MAX_STATE_BYTES:
        raise LamellaError(
            'OUT_OF_RANGE',
            f'the {field} of session {id[:80]!r} would be {size:,} bytes, more than {MAX_STATE_BYTES:,}: keep what is large in '
            'session.artifacts',
        )


def lost(id: str) -> LamellaError:
    """The turn's hold is gone: its lease ran out and another turn began, or the session was deleted."""
    return LamellaError(
        'ABORTED', f'session {id[:80]!r}: this turn has lost its hold on the session, and nothing more of it is written'
    )


def check_id(id: object) -> str:
    """A session id is any text that is not empty, of at most 10,000 characters. Raises ConfigError."""
    if not isinstance(id, str) or not 0 < len(id) <= 10_000:
        raise ConfigError(f'a session id is a text of 1 to 10,000 characters, not {str(id)[:80]!r}')
    return id
