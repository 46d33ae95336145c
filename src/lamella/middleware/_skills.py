"""Skills on disk: folders with a `SKILL.md`, and files that end in `.skill.md`; front matter first, instructions behind it.

The form is that of Agent Skills (agentskills.io/specification): YAML between two lines of `---`, with `name` and `description`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lamella.middleware._file_kinds import media_type
from lamella.middleware._files import (
    Refusal,
    folded,
    opened_directory,
    opened_file,
    parts_of,
    read_up_to,
    shown,
)
from lamella.types import Data, ToolError

MAX_SKILL_BYTES = 262_144
MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_FILES = 100
_MAIN = 'SKILL.md'
_ENDING = '.skill.md'
_NAME = re.compile(r'[a-z0-9]+(?:-[a-z0-9]+)*')
_FENCE = re.compile(r'---[ \t]*\r?\n(.*?)(?:^|\n)---[ \t]*(?:\r?\n|$)', re.DOTALL)


class Skill(Data, frozen=True):
    """One skill. `root` is the folder that holds it, `file` the name of its main file there; `is_folder` says that the other
    files of the folder are its own."""

    name: str
    description: str
    root: str
    file: str
    is_folder: bool


def found_in(paths: Sequence[str]) -> tuple[tuple[Skill, ...], tuple[str, ...]]:
    """The skills under these paths in order, and what is wrong with them. A path is a skill's folder, a folder of skills, or a
    `.skill.md` file."""
    skills: dict[str, Skill] = {}
    problems: list[str] = []
    for path in paths:
        places = list(_places(Path(os.path.realpath(path))))
        if not places:
            problems.append(f'{path} has no {_MAIN} and no *{_ENDING}, and no folder in it has one')
        for root, file in places:
            try:
                skill = _read(root, file)
            except ValueError as error:
                problems.append(f'{root / file}: {error}')
                continue
            if skill.name in skills:
                problems.append(f'{root / file}: another skill is named {skill.name!r}, in {skills[skill.name].root}')
            skills.setdefault(skill.name, skill)
    return tuple(skills.values()), tuple(problems)


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        if path.name.endswith(_ENDING) or path.name == _MAIN:
            yield path.parent, path.name
        return
    if not path.is_dir():
        return
    if (path / _MAIN).is_file():
        yield path, _MAIN
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and (entry / _MAIN).is_file():
            yield entry, _MAIN
        elif entry.name.endswith(_ENDING) and entry.is_file():
            yield path, entry.name


def _read(root: Path, file: str) -> Skill:
    """Raises ValueError with what is wrong."""
    front, _ = split(_bytes(root, file))
    name = front.get('name', root.name if file == _MAIN else file.removesuffix(_ENDING))
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(f'name is {name!r}: use up to {MAX_NAME} lower-case letters, digits and single hyphens')
    description = front.get('description')
    if not isinstance(description, str) or not description.strip():
        raise ValueError(
            'the front matter has no description: say in a sentence what the skill does and when to use it'
        )
    return Skill(name, one_line(description)[:MAX_DESCRIPTION], str(root), file, file == _MAIN)


def _bytes(root: Path, file: str) -> str:
    try:
        text, _ = text_of(str(root), file)
    except ToolError as error:
        raise ValueError(error.message) from error
    return text


def split(text: str) -> tuple[dict[str, Any], str]:
    """The front matter and the instructions. Raises ValueError when there is no front matter or it is no YAML mapping."""
    found = _FENCE.match(text.removeprefix('\ufeff'))
    if found is None:
        raise ValueError("there is no front matter: begin with '---', name: and description:, and '---'")
    try:
        front = yaml.safe_load(found[1])
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f'the front matter is no YAML: {one_line(str(error))[:200]}') from error
    if not isinstance(front, dict):
        raise ValueError(f'the front matter is a {type(front).__name__}: give keys, such as description:')
    return front, text.removeprefix('\ufeff')[found.end() :].strip()


def instructions_of(skill: Skill) -> str:
    """What the skill says today. Raises ToolError."""
    text, _ = text_of(skill.root, skill.file)
    try:
        return split(text)[1]
    except ValueError as error:
        raise ToolError(f'the skill {skill.name!r} cannot be read: {error}') from error


def files_of(skill: Skill) -> tuple[str, ...]:
    """The other files of a skill's folder, relative to it, at most a hundred; hidden ones and links are left out."""
    if not skill.is_folder:
        return ()
    found: list[str] = []
    for folder, folders, files in os.walk(skill.root, followlinks=False):
        folders[:] = sorted(name for name in folders if not hidden(name))
        base = os.path.relpath(folder, skill.root)
        for name in sorted(files):
            path = name if base == '.' else f'{base}/{name}'
            if not hidden(name) and path != skill.file and not os.path.islink(os.path.join(folder, name)):
                found.append(path)
            if len(found) == MAX_FILES:
                return tuple(found)
    return tuple(found)


def text_of(root: str, path: str) -> tuple[str, bytes]:
    """A text file of a skill, walked to from its folder. Raises ToolError for links, binaries and what is too large."""
    parts = parts_of(path, hidden)
    if not parts:
        raise ToolError(f'{shown(path)}: give the path of a file')
    with opened_directory(root, parts[:-1], path) as handle, opened_file(handle, parts[-1], path) as (file, _):
        data = read_up_to(file, MAX_SKILL_BYTES + 1, _go_on)
    if len(data) > MAX_SKILL_BYTES:
        raise Refusal(path, 'size', f'has more than {MAX_SKILL_BYTES:,} bytes')
    if media_type(data, parts[-1]) is not None:
        raise Refusal(path, 'binary', 'is no text')
    try:
        return data.decode('utf-8'), data
    except UnicodeDecodeError:
        raise Refusal(path, 'binary', 'is no UTF-8 text') from None


def _go_on() -> None:
    """Skills are small: nobody needs to stop half way."""


def hidden(name: str) -> bool:
    return folded(name).startswith('.')


def one_line(text: str) -> str:
    """Without line breaks and control characters: it stands in a list that the model reads."""
    plain = ''.join(' ' if unicodedata.category(c) in ('Cc', 'Cf', 'Zl', 'Zp') else c for c in text)
    return ' '.join(plain.split())
