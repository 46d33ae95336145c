"""Which tools a layer is for: names, in which `*` stands for any characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator

from lamella.middleware._fields import listed

_NAME = re.compile(r'[A-Za-z0-9_.*-]{1,64}')


def _names(value: Any) -> tuple[str, ...]:
    names = listed(value, 'tool names', "'read_file'")
    wrong = [
        f'[{index}] is {name!r}: give the name of a tool, in which * stands for any characters'
        for index, name in enumerate(names)
        if not isinstance(name, str) or not _NAME.fullmatch(name)
    ]
    if wrong:
        raise ValueError('; '.join(wrong))
    return names


def _names_or_all(value: Any) -> tuple[str, ...] | None:
    return None if value is None else _names(value)


ToolNames = Annotated[tuple[str, ...], BeforeValidator(_names)]
ToolNamesOrAll = Annotated[tuple[str, ...] | None, BeforeValidator(_names_or_all)]


class ToolSet:
    """The tools of these names; `None` for all tools."""

    __slots__ = ('_exact', '_patterns')

    def __init__(self, names: Iterable[str] | None) -> None:
        names = ('*',) if names is None else tuple(names)
        self._exact = frozenset(name for name in names if '*' not in name)
        patterns = [re.escape(name).replace(r'\*', '.*') for name in names if '*' in name]
        self._patterns = re.compile('|'.join(patterns)) if patterns else None

    def __contains__(self, name: str) -> bool:
        return name in self._exact or (self._patterns is not None and self._patterns.fullmatch(name) is not None)

    def misspelled(self, present: Iterable[str]) -> list[tuple[str, str]]:
        """Names that no tool of a run has, each with a tool outside of the set whose name is nearly that."""
        tools = set(present)
        others = {name.lower(): name for name in tools if name not in self}
        missing = sorted(self._exact - tools) if others else []
        near = [(name, get_close_matches(name.lower(), others, n=1, cutoff=0.85)) for name in missing]
        return [(name, others[close[0]]) for name, close in near if close]
