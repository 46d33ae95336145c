"""What a command is about: a configuration file, or an object in a module."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from lamella.cli._echo import Problem
from lamella.engine.app import Lamella
from lamella.engine.config.load import load
from lamella.types import LamellaError

DEFAULTS = ('lamella.toml', 'spine.toml')


class Unusable(Problem):
    """What was asked for cannot be done; the message says why. Exit code 2."""

    exit_code = 2


def app_of(target: str | None) -> tuple[Lamella, tuple[str, ...]]:
    """The app of a file or of `module:app`, and what was mapped when it was read. Raises Unusable."""
    name = target or next((name for name in DEFAULTS if Path(name).is_file()), None)
    if name is None:
        raise Unusable(f'no {" and no ".join(DEFAULTS)} here: name a file, or an app as module:app')
    try:
        if Path(name).suffix == '.toml' or Path(name).exists():
            return Lamella.from_config(name), load(name).notes
    except LamellaError as error:
        raise Unusable(error.message) from error
    found = object_of(name)
    if callable(found) and not isinstance(found, Lamella):
        found = found()
    if not isinstance(found, Lamella):
        raise Unusable(f'{name} is a {type(found).__name__}: name a Lamella, or a function that returns one')
    return found, ()


def object_of(place: str) -> Any:
    """The object at `module:name`, with the current folder importable. Raises Unusable."""
    module, colon, name = place.partition(':')
    if not colon or not module or not name:
        raise Unusable(f'{place!r} is no file, and no place in a module: write module:name')
    if '' not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise Unusable(f'{place}: {module} needs {error.name}, which is not installed') from error
        raise Unusable(f'{place}: there is no module {error.name!r} here') from error
    except LamellaError as error:
        raise Unusable(f'{place}: {error.message}') from error
    except Exception as error:
        raise Unusable(f'{place}: importing {module} failed: {type(error).__name__}: {error}') from error
    for step in name.split('.'):
        if not hasattr(found, step):
            raise Unusable(f'{place}: {module} has no {name!r}')
        found = getattr(found, step)
    return found
