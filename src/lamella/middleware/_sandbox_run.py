"""One sandboxed call as the app sees it: a process is started, watched, and gone when this is over, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from lamella.middleware._sandbox_plan import start_command
from lamella.middleware._sandbox_words import CPU, MEMORY, PROCESSES, SETUP, Plan, frame_of
from lamella.types import Data, MediaPart

How = Literal['done', 'error', 'memory', 'cpu', 'processes', 'output', 'killed', 'crash', 'walls', 'answer']
_ENDS: dict[int, How] = {
    MEMORY: 'memory',
    CPU: 'cpu',
    PROCESSES: 'processes',
    128 + signal.SIGKILL: 'killed',
    128 + signal.SIGXCPU: 'cpu',
}
_GRACE_S = 5.0
_KEPT = 2000


class Ended(Data, frozen=True):
    """How a call ended. `value` is the result when `how` is `done`; `said` is the error's type, message and status when it is
    `error`; `printed` the end of what the tool printed."""

    how: How
    value: Any = None
    why: str = ''
    said: Mapping[str, Any] = {}
    printed: str = ''


class _Watch(asyncio.SubprocessProtocol):
    """Gathers what the process says, up to a limit for the answer and for what is printed."""

    def __init__(self, most: int) -> None:
        self._most, self._loop = most, asyncio.get_running_loop()
        self.answer, self.printed = bytearray(), bytearray()
        self.is_over = False
        self.settled: asyncio.Future[None] = self._loop.create_future()
        self.gone: asyncio.Future[None] = self._loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        held = self.answer if fd == 1 else self.printed
        room = self._most - len(held)
        held += data[:room]
        if len(data) > room:
            self.is_over = True
            _set(self.settled)

    def process_exited(self) -> None:
        self._loop.call_later(1.0, _set, self.settled)  # for one that kept the pipes open behind our back

    def connection_lost(self, exc: Exception | None) -> None:
        _set(self.settled)
        _set(self.gone)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def run(plan: Plan, task: bytes, environment: Mapping[str, str], most_output: int) -> Ended:
    """Carry the task out. A cancellation ends all its processes, waits until they are gone, and passes."""
    loop = asyncio.get_running_loop()
    watch = _Watch(most_output)
    transport, _ = await loop.subprocess_exec(
        lambda: watch, *start_command(), env=dict(environment), cwd='/', start_new_session=True
    )
    try:
        feed: Any = transport.get_pipe_transport(0)
        feed.write(frame_of(plan.packed(), task))
        await watch.settled
    finally:
        await _end(transport, watch)
    return _ended(transport.get_returncode(), watch)


async def _end(transport: asyncio.SubprocessTransport, watch: _Watch) -> None:
    """Let go of the supervisor, which then ends everything; if it cannot, kill it."""
    pid = transport.get_pid()
    for fd in (0, 1, 2):
        pipe = transport.get_pipe_transport(fd)
        if pipe is not None and not pipe.is_closing():
            pipe.abort() if isinstance(pipe, asyncio.WriteTransport) else pipe.close()
    timer = asyncio.get_running_loop().call_later(_GRACE_S, _kill, pid)
    cancelled: asyncio.CancelledError | None = None
    while not watch.gone.done():
        try:
            await asyncio.shield(watch.gone)
        except asyncio.CancelledError as error:
            cancelled = error
    timer.cancel()
    transport.close()
    if cancelled is not None:
        raise cancelled


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def run_now(plan: Plan, task: bytes, environment: Mapping[str, str]) -> Ended:
    """The same without an event loop, for a look at what this machine can do."""
    with subprocess.Popen(
        start_command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd='/',
        start_new_session=True,
    ) as process:
        pipes: Any = process
        pipes.stdin.write(frame_of(plan.packed(), task))
        pipes.stdin.flush()
        answer, printed = pipes.stdout.read(), pipes.stderr.read()
        pipes.stdin.close()
    return _read(process.returncode, answer, printed.decode(errors='replace')[-_KEPT:])


def _ended(code: int | None, watch: _Watch) -> Ended:
    printed = bytes(watch.printed[-_KEPT:]).decode(errors='replace')
    if watch.is_over:
        return Ended('output', printed=printed)
    return _read(code, bytes(watch.answer), printed)


def _read(code: int | None, answer: bytes, printed: str) -> Ended:
    if code == 0:
        return _answer(answer, printed)
    if code == SETUP:
        return Ended('walls', why=printed or 'they say nothing')
    if (how := _ENDS.get(code or -1)) is not None:
        return Ended(how, printed=printed)
    return Ended('crash', why=_crash(code), printed=printed)


def _crash(code: int | None) -> str:
    number = (code or 0) - 128
    with suppress(ValueError):
        return signal.Signals(number if number > 0 else -(code or 0)).name
    return 'it ended without an answer'


def _answer(answer: bytes, printed: str) -> Ended:
    """What came out, which is not to be trusted: the tool's process may have written anything."""
    try:
        told = json.loads(answer)
        if 'ok' in told:
            return Ended('done', told['ok'], printed=printed)
        if 'media' in told:
            return Ended('done', _media(told['media']), printed=printed)
        said = {key: str(told['error'][key] or '')[:_KEPT] for key in ('kind', 'type', 'message', 'status')}
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return Ended('answer', printed=printed)
    return Ended('memory' if said['kind'] == 'memory' else 'error', said=said, printed=printed)


def _media(told: Mapping[str, Any]) -> MediaPart:
    data = None if told['data'] is None else b64decode(told['data'], validate=True)
    fields: dict[str, Any] = {
        key: None if told[key] is None else str(told[key]) for key in ('url', 'content_type', 'name')
    }
    return MediaPart(data=data, **fields)
