"""`${NAME}` and `${NAME:-default}` in the strings of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lamella.engine.config.places import Path
from lamella.engine.config.problems import Problems

_REFERENCE = re.compile(r'\$\$|\$\{([^}]*)\}')
_NAME = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?', re.DOTALL)


def expanded(document: Any, environment: Mapping[str, str], problems: Problems, path: Path = ()) -> Any:
    """The document with every reference replaced. `$$` is one dollar sign. A variable that is not set is a problem that
    names it, unless there is a default; an empty one counts as not set where there is a default, as in a shell.
    """
    if isinstance(document, dict):
        return {key: expanded(item, environment, problems, (*path, key)) for key, item in document.items()}
    if isinstance(document, list):
        return [expanded(item, environment, problems, (*path, index)) for index, item in enumerate(document)]
    if not isinstance(document, str) or '$' not in document:
        return document
    return _text(document, environment, problems, path)


def _text(text: str, environment: Mapping[str, str], problems: Problems, path: Path) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == '$$':
            return '$'
        named = _NAME.fullmatch(found[1])
        if named is None:
            problems.add(path, f'{found[0]} is no reference', "api_key = '${OPENAI_API_KEY}'")
            return found[0]
        name, default = named[1], named[2]
        given = environment.get(name)
        if given is None or (not given and default is not None):
            if default is None:
                problems.add(path, f'the environment variable {name} is not set', f"'${{{name}:-a default}}'")
                return found[0]
            return default
        problems.hide(given, found[0])
        return given

    return _REFERENCE.sub(value, text)
