"""Programs as people meet them: at a terminal of a given size, or at the end of a pipe. Nothing waits without a deadline."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "import sys; sys.argv = ['lamella', *sys.argv[1:]]; from lamella.cli.main import main; main()"
LAMELLA = [sys.executable, '-c', PROGRAM]
DEADLINE_S = 60.0
COLOUR = re.compile(r'\x1b\[[0-9;]*m')


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """That of a person with a plain terminal."""
    kept = {key: value for key, value in os.environ.items() if key not in ('NO_COLOR', 'COLUMNS', 'LINES')}
    return {**kept, 'TERM': 'xterm', 'LANG': 'C.UTF-8', 'PYTHONUTF8': '1', 'INPUTRC': os.devnull, **(extra or {})}


def piped(
    *arguments: str, input: bytes | str = '', extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`lamella …` with its standard input, output and error as pipes."""
    given = input.encode() if isinstance(input, str) else input
    done = subprocess.run(
        [*LAMELLA, *arguments],
        input=given,
        capture_output=True,
        env=environment(extra),
        timeout=DEADLINE_S,
        check=False,
    )
    assert b'Traceback' not in done.stderr, done.stderr.decode()
    return done


class Terminal:
    """A program at a terminal. `shown` is everything that it has written there."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self._process, self._screen = process, screen
        self.shown = ''
        self._read_to = 0

    def until(self, text: str) -> str:
        """What is shown up to and with `text`, from where the last `until` ended. Colours are no part of it."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.plain.find(text, self._read_to)) < 0:
            if not self._more(deadline):
                raise AssertionError(f'{text!r} never came; shown: {self.plain[self._read_to :]!r}')
        begun, self._read_to = self._read_to, at + len(text)
        return self.plain[begun : self._read_to]

    def ended(self) -> int:
        """The exit code, and the rest is shown."""
        deadline = time.monotonic() + DEADLINE_S
        while self._more(deadline):
            pass
        return self._process.wait(DEADLINE_S)

    def type(self, text: str) -> None:
        """Keys; `\\x03` is Ctrl-C and `\\x04` Ctrl-D."""
        os.write(self._screen, text.encode())

    @property
    def plain(self) -> str:
        return COLOUR.sub('', self.shown).replace('\r\n', '\n')

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # Linux says so when the program has left
            return False
        self.shown += data.decode('utf-8', 'replace')
        return bool(data)


@contextmanager
def terminal(*arguments: str, columns: int = 80, extra: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """`lamella …` at a terminal of its own, which it controls: Ctrl-C reaches it as a signal."""
    screen, line = pty.openpty()
    fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, '-c', f'import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {PROGRAM}', *arguments],
        stdin=line,
        stdout=line,
        stderr=line,
        start_new_session=True,
        env=environment(extra),
        cwd=Path.cwd(),
    )
    os.close(line)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
