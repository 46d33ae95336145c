"""The two files of a batch: prompts that are read a line at a time, and results that are only ever added to."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from lamella.types import ConfigError, Data

MAX_LINE = 64 * 2**20


class Line(Data, frozen=True):
    """One line of prompts: its number (from 1), what it says, and its fingerprint."""

    number: int
    text: bytes
    sha: str


def lines_of(source: Path | IO[bytes]) -> Iterator[Line]:
    """The lines that are not blank. Raises ConfigError for a line of more than 64 MiB."""
    file = source.open('rb') if isinstance(source, Path) else source
    try:
        for number, text in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b''), 1):
            if len(text) > MAX_LINE:
                raise ConfigError(f'line {number} has more than {MAX_LINE // 2**20} MiB')
            if stripped := text.strip():
                yield Line(number, stripped, hashlib.sha256(stripped).hexdigest()[:16])
    finally:
        if isinstance(source, Path):
            file.close()


class Results:
    """The output: one JSON object for each line that is done. Added to a whole line at a time, and locked while it is open.

    What was there before counts as done; a last line that was cut off by a crash is removed.
    """

    def __init__(self, file: IO[bytes], *, keeps: bool) -> None:
        self._file, self._keeps = file, keeps
        self._done: dict[int, str] = {}
        self.earlier = Earlier()

    @classmethod
    def opened(cls, path: str, *, retry_failed: bool = False) -> Results:
        """Raises ConfigError for a file that cannot be written, is in use, or is no output of a batch."""
        if path == '-':
            return cls(sys.stdout.buffer, keeps=False)
        try:
            file = open(path, 'a+b')  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise ConfigError(f'{path} cannot be written: {error.strerror or error}') from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise ConfigError(f'{path} is in use: another batch writes to it') from error
        results = cls(file, keeps=True)
        try:
            results._read_earlier(path, retry_failed=retry_failed)
        except BaseException:
            file.close()
            raise
        return results

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._keeps:
            self._file.close()
        else:
            self._file.flush()

    def is_done(self, line: Line) -> bool:
        """Whether this line has its result. Raises ConfigError when the line was another one then."""
        sha = self._done.get(line.number)
        if sha is None:
            return False
        if sha != line.sha:
            raise ConfigError(
                f'line {line.number} of the prompts is not what it was when its result was written: name another output'
            )
        return True

    def add(self, line: Line, result: dict[str, Any]) -> None:
        """Write the result of a line, whole. It is with the operating system when this returns: a kill loses nothing of it."""
        told = {'line': line.number, 'sha': line.sha, **result}
        self._file.write(json.dumps(told, ensure_ascii=False).encode('utf-8', 'backslashreplace') + b'\n')
        self._file.flush()

    def _read_earlier(self, path: str, *, retry_failed: bool) -> None:
        self._file.seek(0)
        kept, whole = 0, True
        again: list[bytes] = []
        for raw in self._file:
            if not raw.endswith(b'\n'):
                break  # cut off by a crash: as if it had never been
            result = _result(raw, path, kept)
            if retry_failed and not result.ok:
                whole = False
            else:
                self._done[result.line] = result.sha
                self.earlier = self.earlier.with_(result)
                if not whole or retry_failed:
                    again.append(raw)
            kept += len(raw)
        if whole:
            self._file.truncate(kept)
        else:
            self._rewrite(path, again)
        self._file.seek(0, os.SEEK_END)

    def _rewrite(self, path: str, lines: list[bytes]) -> None:
        """Without the failed ones: beside it, then in its place, so that a crash leaves one or the other."""
        beside = f'{path}.new'
        with open(beside, 'wb') as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh = open(beside, 'a+b')  # noqa: SIM115 - takes the place of the open file
        fcntl.flock(fresh, fcntl.LOCK_EX)
        os.replace(beside, path)
        self._file.close()
        self._file = fresh


class _Result(Data, frozen=True):
    """What is read of a line of the output."""

    line: int
    sha: str
    ok: bool
    usage: dict[str, Any] | None = None


class Earlier(Data, frozen=True):
    """What the output had before this run."""

    answered: int = 0
    failed: int = 0
    cost_usd: float = 0.0

    def with_(self, result: _Result) -> Earlier:
        cost = (result.usage or {}).get('cost_usd') or 0.0
        return Earlier(self.answered + result.ok, self.failed + (not result.ok), self.cost_usd + cost)


def _result(raw: bytes, path: str, at: int) -> _Result:
    try:
        return msgspec.json.decode(raw, type=_Result)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is no output of a batch (at byte {at}): name another output') from error
