"""What is wrong with a file: every problem at once, each with its place, the nearest right name, and an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import ValidationError

from lamella.engine.config.places import Path, Place
from lamella.types import ConfigError, Data, did_you_mean

_SHORTEST = 4


class Problem(Data, frozen=True):
    """One problem. `path` is where in the document, `place` where in the text; `example` is a line that would be right."""

    path: Path
    place: Place
    message: str
    example: str = ''

    def __str__(self) -> str:
        where = '.'.join(map(str, self.path))
        said = f'line {self.place.line}, column {self.place.column}: {f"{where}: " if where else ""}{self.message}'
        return f'{said}\n    for example: {self.example}' if self.example else said


class ConfigFileError(ConfigError):
    """The file cannot be used. `problems` has every one of them, in the order of the file."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file, self.problems = file, tuple(problems)
        count = f'{len(problems)} problem{"s" if len(problems) != 1 else ""}'
        super().__init__(f'{file}: {count}\n' + '\n'.join(f'  {problem}' for problem in problems))


class Located(Protocol):
    """Where things of a document stand."""

    def of(self, path: Path) -> Place: ...


class Hints(Protocol):
    """What goes where in a file."""

    def example(self, path: Path) -> str:
        """A line that would be right at this path, or nothing."""

    def known(self, path: Path) -> Sequence[str]:
        """The keys that the table at this path may have."""


class Problems:
    """Collects the problems of one file. What came from the environment is shown as it is written in the file."""

    def __init__(self, file: str, places: Located) -> None:
        self.file = file
        self._places = places
        self._found: list[Problem] = []
        self._secrets: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def move(self, places: Located) -> None:
        """From here on, paths are those of a document that was made from the file; what was found before stays."""
        self._places = places

    def hide(self, value: str, written: str) -> None:
        """Never show this value: `written` stands in its place. What is shorter than four letters is no secret."""
        if len(value) >= _SHORTEST:
            self._secrets[value] = written

    def add(self, path: Path, message: str, example: str = '') -> None:
        for value in sorted(self._secrets, key=len, reverse=True):
            message = message.replace(repr(value)[1:-1], self._secrets[value]).replace(value, self._secrets[value])
        problem = Problem(path, self._places.of(path), message, example)
        if problem not in self._found:
            self._found.append(problem)

    def add_all(self, path: Path, error: ValidationError, hints: Hints) -> None:
        """What pydantic found, below this path."""
        for found in error.errors(include_url=False, include_context=False):
            where = (*path, *found['loc'])
            example = hints.example(where)
            if found['type'] == 'extra_forbidden':
                self.add(where, f'unknown setting{did_you_mean(str(where[-1]), hints.known(where[:-1]))}', example)
            elif found['type'] == 'missing':
                self.add(where, 'is missing', example)
            else:
                self.add(where, f'{_lower(found["msg"])} (given {shown(found["input"])})', example)

    def refuse(self) -> None:
        """Raises ConfigFileError when there is any."""
        if self._found:
            raise ConfigFileError(
                self.file, sorted(self._found, key=lambda found: (found.place.line, found.place.column))
            )


def shown(value: object) -> str:
    """A value as an error shows it: short, and of tables only that they are some."""
    if isinstance(value, (Mapping, list, tuple)):
        return 'a table' if isinstance(value, Mapping) else 'a list'
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}…'


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
