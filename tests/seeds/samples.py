"""The printed samples of the first seed: read from the page, renamed by one rule, run with top-level await."""

import ast
import inspect
import linecache
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamella.middleware import BaseMiddleware, GenerateMiddlewareContext

PAGE = Path(__file__).with_name('seed_1.txt')
# The whole difference between what is printed and what is run.
RENAMED = (('genkit', 'lamella'), ('Genkit', 'Lamella'))
_BLOCK = re.compile(r'^## (?P<name>[^\n]+)\n\n```(?P<kind>\w+)\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def printed(kind: str) -> dict[str, str]:
    """The blocks of one kind (`python`, `text`) by name, as they were printed."""
    page = PAGE.read_text(encoding='utf-8')
    return {found['name']: found['text'] for found in _BLOCK.finditer(page) if found['kind'] == kind}


def renamed(text: str) -> str:
    for old, new in RENAMED:
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    """The sample as it is run."""
    return renamed(printed('python')[name])


async def run(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run a sample with the names that its page takes for granted; returns all names there are afterwards."""
    return await execute(program(name), name, given)


async def execute(source: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    filename = f'<{name}>'
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    code = compile(source, filename, 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names = {'__name__': 'sample', **given}
    result = eval(code, names)
    if inspect.iscoroutine(result):
        await result
    return names


def imported_above() -> dict[str, Any]:
    """What the samples further down the page use of the imports further up."""
    return {'time': time, 'BaseMiddleware': BaseMiddleware, 'GenerateMiddlewareContext': GenerateMiddlewareContext}


def answering(*answers: str) -> Callable[[str], str]:
    """An `input` that types these answers."""
    left = list(answers)

    def read(question: str) -> str:
        print(question)
        return left.pop(0)

    return read
