"""What stands around the demo: a terminal for two writers, the simulator's outages, and the promises that are checked."""

import io
import sys
from pathlib import Path

from lamella.simulator import Fault, Simulator
from lamella.testing import CollectingSink


class Terminal(io.TextIOBase):
    """Standard output for two writers: a line of the log never begins in the middle of the text that a reader sees."""

    in_text = False

    def __repr__(self) -> str:
        return 'terminal'

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    def write(self, line: str) -> int:
        self.show('\n' if self.in_text else '')
        self.in_text = False
        return sys.stdout.write(line)

    def show(self, piece: str) -> None:
        """A piece of text as it arrives."""
        print(piece, end='', flush=True)
        self.in_text = True


class Stage:
    """`simulator` is `None` with a real provider, which fails when it likes. `broken` lists the promises that did not hold."""

    def __init__(self, simulator: Simulator | None, folder: Path, events: CollectingSink) -> None:
        self.simulator, self.folder, self.events = simulator, folder, events
        self.broken: list[str] = []

    def begin(self, title: str, *outage: Fault) -> None:
        """From here on the simulator fails like this."""
        print(f'\n── {title} {"─" * (100 - len(title))}\n')
        self.events.events.clear()
        if self.simulator is not None:
            self.simulator.reset()
            self.simulator.use(faults=outage)

    def promise(self, text: str, held: bool) -> None:
        print(f'  {"✓" if held else "✗"} {text}')
        if not held:
            self.broken.append(text)

    def promise_calls(self, text: str, *models: str) -> None:
        """Which models were asked, in this order."""
        asked = tuple(event.facts['model'].removeprefix('openai/') for event in self.events.named('model.start'))
        if self.simulator is not None:
            self.promise(f'{text}: {" → ".join(asked)}', asked == models)

    def promise_waits(self, text: str, *at_least_s: float) -> None:
        """How often and how long was waited."""
        waits = [event.facts['wait_s'] for event in self.events.named('retry.wait')]
        if self.simulator is not None:
            held = len(waits) == len(at_least_s) and all(map(float.__ge__, waits, at_least_s))
            self.promise(f'{text}: {", ".join(f"{wait:.2f} s" for wait in waits)}', held)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())
