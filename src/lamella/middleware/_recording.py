"""A recording: what is in the file, read back run by run, and checked line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lamella.middleware._recording_codec import Unreadable, digest, entry_of, value_of
from lamella.middleware._recording_errors import error_of
from lamella.types import (
    JSON,
    STREAM_PARTS,
    ConfigError,
    Folder,
    LamellaError,
    ModelRequest,
    ModelResponse,
    StreamPart,
    ToolResponse,
    unfold,
)

VERSION = 1
_OUTCOMES = ('answer', 'output', 'error', 'left')


class RecordedCall:
    """One call of a model or of a tool. `at_s` counts from the beginning of the run.

    `parts` are the parts of a stream with their times; `outcome` is `answer`, `output`, `error` or `left`, and `None` when the
    recording ends in the middle of the call; `result` what was answered or raised.
    """

    def __init__(self, entry: JSON, line: int, what: str, request: Any) -> None:
        self.line, self.what, self.request = line, what, request
        self.number: int = _number(entry, 'n')
        self.turn: int = _number(entry, 'turn')
        self.at_s: float = _seconds(entry, 's')
        self.name = _text(entry, 'tool' if what == 'tool' else 'model')
        self.ref: str | None = entry.get('ref')
        self.digest = digest([self.name, request])
        self.parts: list[tuple[float, StreamPart]] = []
        self.outcome: str | None = None
        self.result: Any = None
        self.ended_s = self.at_s

    def __repr__(self) -> str:
        return f'<{self.place}>'

    @property
    def place(self) -> str:
        """`call 3 (turn 2, tool look)`."""
        return f'call {self.number} (turn {self.turn}, {self.what} {self.name})'

    def answer(self) -> ModelResponse:
        """The whole answer. Raises what was raised."""
        if isinstance(self.result, ModelResponse):
            return self.result
        folder = Folder()
        for _, part in self.parts:
            folder.add(part)
        if not isinstance(self.result, BaseException):
            return folder.response()
        error = self.error()
        if isinstance(error, LamellaError):
            folder.tell(error)
        raise error

    def stream(self) -> Iterator[tuple[float, StreamPart]]:
        """The parts as they came; of a whole answer the shortest stream that folds to it."""
        if isinstance(self.result, ModelResponse):
            for part in unfold(self.result):
                yield self.ended_s, part
            return
        yield from self.parts

    def error(self) -> BaseException:
        """A new exception at each call: layers add to what they are given."""
        return error_of(self._written_error)

    def end(self, outcome: str, entry: JSON) -> None:
        self.outcome, self.ended_s = outcome, _seconds(entry, 's')
        if outcome == 'error':
            self._written_error = entry.get('error')
            self.result = error_of(self._written_error)
        elif outcome != 'left':
            self.result = value_of(entry.get(outcome))
            wanted = ToolResponse if outcome == 'output' else ModelResponse
            if outcome == 'answer' and entry.get('answer') is None:
                self.result = None  # a stream, whose parts are the answer
            elif not isinstance(self.result, wanted):
                raise Unreadable(f'{outcome} is no {wanted.__name__}')


class RecordedRun:
    """One run: what was asked for, its calls in the order in which they began, and how it ended (`None` when it did not)."""

    def __init__(self, entry: JSON, line: int) -> None:
        if entry.get('lamella_recording') != VERSION:
            raise Unreadable(f'a recording of version {entry.get("lamella_recording")!r}: this reads version {VERSION}')
        self.line = line
        self.id = _text(entry, 'run')
        self.began: float = _seconds(entry, 'at')
        self.model = _text(entry, 'model')
        self.is_stream = entry.get('stream') is True
        self.parent: str | None = entry.get('parent')
        self.context: JSON = value_of(entry.get('context', {}))
        self.max_turns: int | None = entry.get('max_turns')
        self.request: Any = entry.get('request')
        self.seed = _seed(entry.get('seed'))
        self.digest = digest([self.model, self.request])
        self.calls: list[RecordedCall] = []
        self.waits: list[tuple[float, float]] = []
        self.end: JSON | None = None
        self._open: dict[int, RecordedCall] = {}

    def __repr__(self) -> str:
        return f'<run {self.id}: {len(self.calls)} calls>'

    def model_request(self) -> ModelRequest:
        """What was asked for. Raises Unreadable."""
        request = value_of(self.request)
        if not isinstance(request, ModelRequest):
            raise Unreadable('a run without a request')
        return request

    def take(self, kind: str, entry: JSON, line: int) -> None:
        """One entry of this run. Raises Unreadable."""
        if kind == 'model':
            self._begin(RecordedCall(entry, line, 'model', self._whole(entry.get('request'))))
        elif kind == 'tool':
            asked = {'input': entry.get('input'), 'resumed': entry.get('resumed')}
            self._begin(RecordedCall(entry, line, 'tool', asked))
        elif kind == 'part':
            part = value_of(entry.get('part'))
            if type(part) not in STREAM_PARTS:
                raise Unreadable('a part that is none')
            self._of(entry).parts.append((_seconds(entry, 's'), part))
        elif kind in _OUTCOMES:
            self._of(entry).end(kind, entry)
        elif kind == 'wait':
            self.waits.append((_seconds(entry, 's'), _seconds(entry, 'wait_s')))
        elif kind == 'end':
            self.end = entry
        else:
            raise Unreadable(f'{kind!r} is no kind of entry')

    def _begin(self, call: RecordedCall) -> None:
        if call.number in self._open:
            raise Unreadable(f'a second call {call.number}')
        self._open[call.number] = call
        self.calls.append(call)

    def _of(self, entry: JSON) -> RecordedCall:
        number = _number(entry, 'n')
        if number not in self._open:
            raise Unreadable(f'call {number}, which has not begun')
        return self._open[number]

    def _whole(self, request: Any) -> Any:
        """The request with the messages that it has from an earlier one."""
        if not isinstance(request, dict) or 'same' not in request:
            return request
        same, more = request['same'], request.get('messages', [])
        if not isinstance(same, dict) or not isinstance(more, list):
            raise Unreadable('a request whose messages cannot be found')
        earlier = self._of({'n': same.get('call')})
        messages = earlier.request.get('messages') if isinstance(earlier.request, dict) else None
        first = same.get('first')
        if not isinstance(messages, list) or not isinstance(first, int) or not 0 <= first <= len(messages):
            raise Unreadable('a request whose messages cannot be found')
        return {**{key: value for key, value in request.items() if key != 'same'}, 'messages': messages[:first] + more}


class Recording:
    """The runs of a file, or of all `.jsonl` files of a folder, in order. `Recording.read(path)`.

    Held in memory whole. `unfinished` says where a file ends in the middle of a line, which is what a process leaves that was
    killed while it wrote.
    """

    def __init__(self, runs: list[RecordedRun], path: str, unfinished: tuple[str, ...] = ()) -> None:
        self.runs, self.path, self.unfinished = runs, path, unfinished

    def __repr__(self) -> str:
        return f'Recording({self.path!r}, {len(self.runs)} runs)'

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        """Raises ConfigError for a file that is not there or is no recording, with the number of the line."""
        given = Path(path)
        files = sorted(given.glob('*.jsonl')) if given.is_dir() else [given]
        runs, unfinished = list[RecordedRun](), list[str]()
        for file in files:
            try:
                lines = file.read_bytes().split(b'\n')
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f'the recording {str(path)!r} cannot be read: {getattr(error, "strerror", error)}'
                ) from error
            runs += _runs(lines, file, unfinished)
        if not runs:
            raise ConfigError(f'the recording {str(path)!r} has no runs')
        return cls(sorted(runs, key=lambda run: run.began), str(path), tuple(unfinished))


def _runs(lines: list[bytes], file: Path, unfinished: list[str]) -> list[RecordedRun]:
    runs: dict[str, RecordedRun] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = entry_of(line)
        except Unreadable as error:
            if runs and _was_cut(lines[number:]):
                unfinished.append(f'{file}:{number}')
                continue
            raise ConfigError(f'{file}:{number}: {error}') from None
        try:
            _take(runs, entry, number)
        except Unreadable as error:
            raise ConfigError(f'{file}:{number}: {error}') from None
        except RecursionError:
            raise ConfigError(f'{file}:{number}: nested too deeply') from None
    return list(runs.values())


def _was_cut(rest: list[bytes]) -> bool:
    """Whether the line before these is one that a killed process left: it has no end, or somebody began anew behind it."""
    return not rest or rest[0].startswith(b'{"type":"run"')


def _take(runs: dict[str, RecordedRun], entry: JSON, line: int) -> None:
    kind, run = entry.get('type'), entry.get('run')
    if not isinstance(kind, str) or not isinstance(run, str):
        raise Unreadable('an entry without type and run: this is no recording')
    if kind == 'run':
        if run in runs:
            raise Unreadable(f'a second run {run!r}')
        runs[run] = RecordedRun(entry, line)
        return
    if run not in runs:
        raise Unreadable(f'an entry of run {run!r}, which has not begun')
    runs[run].take(kind, entry, line)


def _number(entry: JSON, name: str) -> int:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unreadable(f'{name} is {value!r}: no whole number')
    return value


def _seconds(entry: JSON, name: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unreadable(f'{name} is {value!r}: no number of seconds')
    return value


def _text(entry: JSON, name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise Unreadable(f'{name} is {value!r}: no text')
    return value


def _seed(value: Any) -> bytes | None:
    try:
        return None if value is None else bytes.fromhex(value)
    except (TypeError, ValueError):
        raise Unreadable('a seed that is none') from None
