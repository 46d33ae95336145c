"""Scripts: faults and answers written down in TOML (or JSON, over HTTP), read with every problem in one error."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lamella.simulator.answers import Answer, answer_problems
from lamella.simulator.checks import unknown_keys
from lamella.simulator.faults import Fault, fault_problems
from lamella.types import ConfigError, Data


class Script(Data, frozen=True):
    """What a simulator was told to do."""

    faults: tuple[Fault, ...] = ()
    answers: tuple[Answer, ...] = ()


def load_script(path: str | Path) -> Script:
    """Reads a TOML file with `[[faults]]` and `[[answers]]`. Raises ConfigError naming the file and every problem."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f'{path} cannot be read as TOML: {error}') from error
    return script_of(table, str(path))


def script_of(table: Mapping[str, Any], source: str) -> Script:
    """A script from plain data. Raises ConfigError with every problem, each with its place."""
    problems = unknown_keys(source, table, ('faults', 'answers'))
    faults = _rules(table.get('faults', []), 'faults', fault_problems, problems)
    answers = _rules(table.get('answers', []), 'answers', answer_problems, problems)
    if problems:
        raise ConfigError(
            f'{source} has {len(problems)} problem{"s" * (len(problems) > 1)}:\n  ' + '\n  '.join(problems)
        )
    return Script(tuple(Fault(**fault) for fault in faults), tuple(Answer(**answer) for answer in answers))


def _rules(
    tables: Any, name: str, check: Callable[[Mapping[str, Any], str], list[str]], problems: list[str]
) -> list[dict[str, Any]]:
    """The tables of one list; what is wrong with them is added to `problems`."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f'{name} is {tables!r}: write one [[{name}]] table for each')
        return []
    for at, table in enumerate(tables):
        problems += check(table, f'{name}[{at}]')
    return tables
