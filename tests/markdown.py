"""Code fences of the documentation pages, read strictly: what looks like Python is either run or skipped with a reason."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r'^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*?)[ \t]*$')
SKIP = re.compile(r'^[ \t]*<!--[ \t]*not run:[ \t]*(?P<reason>.*?)[ \t]*-->[ \t]*$')
SKIP_LIKE = re.compile(r'<!--.*\b(?:not[ _-]?run|skip|no[ _-]?run)\b', re.IGNORECASE)
ENVIRONMENT = re.compile(r'<!--[ \t]*environment:[ \t]*(?P<name>.*?)[ \t]*-->')
# Environments beside the main one, and the command that runs their pages.
ENVIRONMENTS = {'adk': 'make adk'}
PYTHON_LIKE = re.compile(r'^(?:py\w*|python\w*)\b|^\{\.?(?:py|python)', re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its first line of code (1-based), its info string and, when it is not run, why."""

    line: int
    info: str
    indent: str
    source: str
    reason: str | None

    @property
    def looks_like_python(self) -> bool:
        return PYTHON_LIKE.match(self.info) is not None

    @property
    def is_run(self) -> bool:
        return self.info == 'python' and not self.indent and self.reason is None


def pages(root: Path = ROOT) -> list[Path]:
    found = [root / 'README.md', root / 'CONTRIBUTING.md', *sorted((root / 'docs').rglob('*.md'))]
    return [page for page in found if page.exists()]


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a page, in order; a fence that is never closed ends with the page, as in CommonMark."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        end = at + 1
        while end < len(lines) and not closes(lines[end], opening['fence']):
            end += 1
        yield Block(
            line=at + 2,
            info=opening['info'],
            indent=opening['indent'],
            source='\n'.join(lines[at + 1 : end]) + '\n',
            reason=reason_before(lines, at),
        )
        at = end + 1


def closes(line: str, fence: str) -> bool:
    stripped = line.strip(' \t>')
    return len(stripped) >= len(fence) and set(stripped) == {fence[0]}


def reason_before(lines: list[str], at: int) -> str | None:
    """The reason in a `<!-- not run: … -->` on the line right above the fence."""
    comment = SKIP.match(lines[at - 1]) if at else None
    return comment['reason'] if comment else None


def environment_of(text: str) -> str | None:
    """The environment that a page's blocks run in, named on its first line (`<!-- environment: adk -->`); `None` for the main."""
    found = ENVIRONMENT.fullmatch(text.split('\n', 1)[0].strip())
    return found['name'] if found else None


def problems(text: str) -> list[str]:
    """Why some Python on a page would go unrun and unnoticed."""
    found = []
    skipping_lines = set()
    for block in blocks(text):
        fence_line = block.line - 1
        if block.reason is not None:
            skipping_lines.add(fence_line - 1)
            if len(block.reason.split()) < 3:
                found.append(f'line {fence_line - 1}: `not run` needs a reason of a few words')
        elif block.looks_like_python and not block.is_run:
            found.append(f'line {fence_line}: a Python block that is not run; open it with ```python at the margin')
    for number, line in enumerate(text.splitlines(), 1):
        named = ENVIRONMENT.search(line)
        if named and (number > 1 or named['name'] not in ENVIRONMENTS):
            found.append(
                f'line {number}: an environment is one of {", ".join(ENVIRONMENTS)}, and named on the first line'
            )
        if SKIP_LIKE.search(line) and number not in skipping_lines:
            found.append(f'line {number}: write `<!-- not run: the reason -->` on the line right above a fence')
    return found
