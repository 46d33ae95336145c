"""Reading a file: parsed, its references replaced, checked whole, and made into an app."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from lamella.core.models import ModelRef
from lamella.core.plugin import Plugin
from lamella.core.stack import Stack
from lamella.core.wrapped import WrappedModel
from lamella.engine.config.build import Builder, slashed
from lamella.engine.config.environment import expanded
from lamella.engine.config.file import File, FileHints
from lamella.engine.config.places import Path, Place, Places, value_at
from lamella.engine.config.problems import ConfigFileError, Problem, Problems
from lamella.engine.config.spine import Moved, Translation, is_spine
from lamella.engine.traces import TraceStore
from lamella.types import Data

_AT = re.compile(r'\(at line (\d+), column (\d+)\)')


class Loaded(Data, frozen=True):
    """What a file names, ready for an app. `notes` say what was mapped from a file of another kind."""

    file: File
    plugins: tuple[Plugin, ...]
    models: Mapping[str, ModelRef | WrappedModel]
    chains: Mapping[str, Stack]
    stack: Stack
    store: str | None
    notes: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """The keywords of `Lamella(…)`."""
        guards = {key: value for key, value in self.file.guards.model_dump().items() if value is not None}
        options: dict[str, Any] = {
            'plugins': self.plugins,
            'use': [self.stack],
            'store': self.store,
            'check_order': self.file.check_order,
            'prices': {name: table.model_dump(exclude_none=True) for name, table in self.file.prices.items()} or None,
            **guards,
        }
        if self.file.trace is not None:
            options['sinks'] = [TraceStore(self.file.trace)]
        if self.file.model is not None:
            options['model'] = slashed(self.file.model)
        if self.file.max_parallel_tools is not None:
            options['max_parallel_tools'] = self.file.max_parallel_tools
        return options


def load(path: str | os.PathLike[str], environment: Mapping[str, str] | None = None) -> Loaded:
    """Everything that the file names. Raises ConfigFileError with every problem; nothing is connected to."""
    name = os.fspath(path)
    text = _text(name)
    document = _parsed(name, text)
    places: Any = Places(text)
    problems = Problems(name, places)
    document = expanded(document, os.environ if environment is None else environment, problems)
    notes: tuple[str, ...] = ()
    if is_spine(document):
        translated = Translation(document, problems)
        document, notes = translated.document, tuple(translated.notes)
        problems.move(Moved(places, translated.moves))
    return _checked(document, problems, notes)


def _checked(document: Mapping[str, Any], problems: Problems, notes: tuple[str, ...]) -> Loaded:
    file = _shaped(document, problems)
    builder = Builder(file, problems)
    builder.stores()
    builder.layers()
    chains = builder.chains()
    outermost = file.chain or ('default' if 'default' in chains else None)
    loaded = Loaded(
        file=file,
        plugins=tuple(builder.plugins()),
        models=builder.models(chains),
        chains=chains,
        stack=Stack() if outermost is None else builder.chain(outermost, ('chain',), chains),
        store=None if file.store is None else builder.store(file.store, ('store',)),
        notes=notes,
    )
    builder.names(loaded.plugins)
    problems.refuse()
    return loaded


def _shaped(document: Mapping[str, Any], problems: Problems) -> File:
    """The file as its models see it. What does not fit is a problem and left out, so that the rest is looked at too."""
    rest = deepcopy(dict(document))
    while True:
        try:
            return File.model_validate(rest)
        except ValidationError as error:
            problems.add_all((), error, FileHints())
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                _take_out(rest, found['loc'])


def _take_out(document: Any, path: Path) -> None:
    """Remove what stands at the path; of something that is missing, what it is missing in."""
    holder = value_at(document, path[:-1])
    if isinstance(holder, dict) and path[-1] in holder:
        del holder[path[-1]]
    elif isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder):
        holder[path[-1]] = ''
    elif len(path) > 1:
        _take_out(document, path[:-1])


def _text(name: str) -> str:
    try:
        return FilePath(name).read_text(encoding='utf-8')
    except OSError as error:
        problem = f'cannot be read: {error.strerror or error}'
    except UnicodeDecodeError as error:
        problem = f'is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}'
    raise ConfigFileError(name, [Problem((), Place(1, 1), problem)])


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        end = Place(text.count('\n') + 1, len(text) - (text.rfind('\n') + 1) + 1)
        place = Place(int(at[1]), int(at[2])) if at else end
        said = _AT.sub('', str(error)).strip().removesuffix('(at end of document)').strip()
        raise ConfigFileError(name, [Problem((), place, f'is no TOML: {said}')]) from error
    except RecursionError as error:
        raise ConfigFileError(name, [Problem((), Place(1, 1), 'is nested too deeply')]) from error
