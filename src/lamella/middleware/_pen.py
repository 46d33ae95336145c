"""Lines at the end of a file that others may write to as well."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lamella.middleware._recording_codec import line_of
from lamella.types import JSON

_FLAGS = getattr(os, 'O_BINARY', 0) | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_CLOEXEC', 0)


class Pen:
    """Writes whole lines to the end of a file, which is open from the first line to `close()`.

    Each line is one write to a file that is opened for appending, so that several runs and processes may share it. What a
    process left that was killed in the middle of a line is ended first. Only its owner may read a file that is made here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def write(self, entry: JSON) -> None:
        """Raises OSError, and ValueError for what JSON cannot hold."""
        line = line_of(entry)
        if self._file is None:
            self._file, size = self._opened()
            line = line if not size or _last_byte(self._file, size) == b'\n' else b'\n' + line
        written = os.write(self._file, line)
        while written < len(line):
            written += os.write(self._file, line[written:])

    def _opened(self) -> tuple[int, int]:
        """The file, and how much is in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _FLAGS, 0o600)
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):  # a pipe whose reader sleeps would hold up everything
            os.close(file)
            raise OSError(errno.EINVAL, 'is no regular file', str(self.path))
        return file, facts.st_size

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


def _last_byte(file: int, size: int) -> bytes:
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1)
