"""`Filesystem`: tools to list, read, write and edit the files of one directory, and of no other place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.tools import Tool, ToolContext, tool_of
from lamella.middleware._fields import Count, Switch, listed
from lamella.middleware._file_edits import MAX_EDITS, Edit, edited, encoded
from lamella.middleware._file_kinds import media_type
from lamella.middleware._file_lists import Listing
from lamella.middleware._file_writes import is_temporary, lock_of, status_of, write_whole
from lamella.middleware._files import (
    SUPPORTED,
    Refusal,
    folded,
    made_directory,
    opened_directory,
    opened_file,
    parts_of,
    read_up_to,
    shown,
    unmade,
)
from lamella.middleware._threads import Stop, in_thread
from lamella.types import JSON, MediaPart, ToolError

T = TypeVar('T')
Ctx = GenerateMiddlewareContext
_PREFIX = re.compile(r'[A-Za-z0-9_.-]{0,48}')
DENIED = ('.git', '.ssh', '.env', '.env.*', '.netrc')
MEDIA = ('image/png', 'image/jpeg', 'image/gif', 'image/webp', 'application/pdf')


def _root(value: Any) -> Any:
    if not SUPPORTED:
        raise ValueError('this system cannot open files relative to a directory handle: Linux and macOS can')
    if not isinstance(value, (str, os.PathLike)) or not (path := os.fspath(value)) or isinstance(path, bytes):
        raise ValueError('give the path of a directory')
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        raise ValueError('is no directory: make it first')
    return real


def _prefix(value: Any) -> Any:
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise ValueError('use up to 48 letters, digits, "_", "-" or "."')
    return value


def _patterns(value: Any) -> tuple[Any, ...]:
    given = listed(value, 'patterns', "'.git'")
    wrong = [item for item in given if not isinstance(item, str) or not item or '/' in item]
    if wrong:
        raise ValueError(f'{wrong[0]!r} is no pattern of one name, such as *.pem')
    return given


def _types(value: Any) -> tuple[Any, ...]:
    given = listed(value, 'MIME types', "'image/*'")
    wrong = [item for item in given if not isinstance(item, str) or item.count('/') != 1]
    if wrong:
        raise ValueError(f'{wrong[0]!r} is no MIME type, such as image/png or image/*')
    return given


class FilesystemConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Filesystem`."""

    root_dir: Annotated[
        str, BeforeValidator(_root), Field(description='The directory that the tools work in. It must exist.')
    ]
    allow_write_access: Annotated[Switch, Field(description='Also give the tools write_file and edit_file.')] = False
    tool_name_prefix: Annotated[
        str, BeforeValidator(_prefix), Field(description='What the names of the tools begin with.')
    ] = ''
    max_read_bytes: Annotated[Count, Field(description='A larger text is not read.')] = 262_144
    max_media_bytes: Annotated[Count, Field(description='A larger image or document is not read.')] = 5_000_000
    max_write_bytes: Annotated[Count, Field(description='A larger file is neither written nor edited.')] = 1_048_576
    max_entries: Annotated[Count, Field(description='A listing ends after so many entries, and says so.')] = 1000
    media_types: Annotated[
        tuple[str, ...],
        BeforeValidator(_types),
        Field(description='The MIME types that are read as media; other binary files are refused. * stands for any.'),
    ] = MEDIA
    denied_names: Annotated[
        tuple[str, ...],
        BeforeValidator(_patterns),
        Field(description='Names of files and directories that no tool touches, at any depth and in any case.'),
    ] = DENIED


class FilesystemOptions(TypedDict, total=False):
    """The keywords of `Filesystem`."""

    root_dir: str | os.PathLike[str]
    allow_write_access: bool
    tool_name_prefix: str
    max_read_bytes: int
    max_media_bytes: int
    max_write_bytes: int
    max_entries: int
    media_types: Sequence[str]
    denied_names: Sequence[str]


Path = Annotated[str, Field(description='Relative to the root directory, with "/" between names, such as src/main.py.')]


class Filesystem(BaseMiddleware[FilesystemConfig]):
    """Gives the model the tools `list_files(path='.', recursive=False)` and `read_file(path)` and, with
    `allow_write_access`, `write_file(path, content)` and `edit_file(path, edits=[{old, new}])`, for one directory.

    Each path is walked name by name from a handle on the root. Symbolic links are never followed, inside the root neither;
    files with several names (hard links), devices, pipes and sockets are refused; so are `..`, absolute paths, names with
    control characters, and `denied_names`. What is refused is an error that the model reads; it never names the root's place.

    A text is returned as it is, an image or a document of `media_types` as a `MediaPart`. A file is written beside its place,
    flushed and renamed: whole or not at all. An edit works on the bytes and touches nothing that it does not name; each `old`
    must occur exactly once, and all edits are made or none. Work runs in threads; a cancelled call waits for the step it is in.

    Events: `filesystem.listed(path, entries)`, `filesystem.read(path, bytes)`, `filesystem.wrote(path, bytes, created)`,
    `filesystem.edited(path, bytes, edits)`, `filesystem.refused(tool, path, reason)`.
    """

    def __init__(self, config: FilesystemConfig | None = None, **options: Unpack[FilesystemOptions]) -> None:
        super().__init__(config, **options)
        self._root = self.config.root_dir
        self._lock = lock_of(self._root)
        self._denied = tuple(folded(pattern) for pattern in self.config.denied_names)
        functions: list[Callable[..., Any]] = [self._list_files, self._read_file]
        if self.config.allow_write_access:
            functions += [self._write_file, self._edit_file]
        self._tools = tuple(
            tool_of(function, self.config.tool_name_prefix + function.__name__[1:]) for function in functions
        )

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        return self._tools

    def denies(self, name: str) -> bool:
        """Whether a file or directory of this name is kept from the tools."""
        seen = folded(name)
        return is_temporary(name) or any(fnmatchcase(seen, pattern) for pattern in self._denied)

    async def _list_files(self, ctx: ToolContext, path: Path = '.', recursive: bool = False) -> JSON:
        """List a directory: path, type (file, directory, link, hard link, special) and size of its entries.
        Links are not followed."""

        def work(stop: Stop) -> JSON:
            listing = Listing(self._root, self.config.max_entries, recursive, self.denies, stop.check)
            return listing.of(parts_of(path, self.denies), path)

        result = await self._run('list_files', path, ctx, work)
        ctx.run.emit('filesystem.listed', path=path, entries=len(result['entries']))
        return result

    async def _read_file(self, ctx: ToolContext, path: Path) -> Any:
        """Read a file: its text, or the image or document."""
        output, size = await self._run('read_file', path, ctx, lambda stop: self._read(path, stop))
        ctx.run.emit('filesystem.read', path=path, bytes=size)
        return output

    async def _write_file(
        self,
        ctx: ToolContext,
        path: Path,
        content: Annotated[str, Field(description='The whole text of the file.')],
    ) -> JSON:
        """Write a text file, in the place of the old one if there is one. Missing directories are made."""
        result = await self._run('write_file', path, ctx, lambda stop: self._write(path, content, stop))
        ctx.run.emit('filesystem.wrote', **result)
        return result

    async def _edit_file(
        self,
        ctx: ToolContext,
        path: Path,
        edits: Annotated[list[Edit], Field(min_length=1, max_length=MAX_EDITS)],
    ) -> JSON:
        """Replace pieces of a file, in order. Each old text must occur exactly once; when one does not fit, nothing is
        changed."""
        result = await self._run('edit_file', path, ctx, lambda stop: self._edit(path, edits, stop))
        ctx.run.emit('filesystem.edited', **result)
        return result

    async def _run(self, tool: str, path: str, ctx: ToolContext, work: Callable[[Stop], T]) -> T:
        try:
            return await in_thread(work)
        except Refusal as refusal:
            ctx.run.emit('filesystem.refused', tool=tool, path=refusal.path, reason=refusal.reason)
            raise

    def _split(self, path: str) -> tuple[tuple[str, ...], str]:
        """The directory's names and the file's. Raises ToolError."""
        parts = parts_of(path, self.denies)
        if not parts or path.endswith(('/', '/.')):
            raise ToolError(f'{shown(path)}: is a directory, give the path of a file')
        return parts[:-1], parts[-1]

    def _read(self, path: str, stop: Stop) -> tuple[Any, int]:
        parts, name = self._split(path)
        most = self.config.max_read_bytes
        with opened_directory(self._root, parts, path) as handle, opened_file(handle, name, path) as (file, status):
            data = read_up_to(file, most + 1, stop.check)
            kind = media_type(data, name)
            if kind is not None and self._is_media(kind):
                most = self.config.max_media_bytes
                data += read_up_to(file, most + 1 - len(data), stop.check)
            if len(data) > most:
                size = max(status.st_size, len(data))
                raise Refusal(path, 'too_large', f'has {size:,} bytes, more than the {most:,} that may be read')
        if kind is None:
            return _text(data), len(data)
        if not self._is_media(kind):
            raise ToolError(f'{shown(path)}: a binary file ({kind}, {len(data):,} bytes), which cannot be shown')
        return MediaPart(data=data, content_type=kind, name=name), len(data)

    def _is_media(self, kind: str) -> bool:
        return any(fnmatchcase(kind, pattern) for pattern in self.config.media_types)

    def _write(self, path: str, content: str, stop: Stop) -> JSON:
        parts, name = self._split(path)
        data = encoded(content, shown(path))
        self._check_size(path, data)
        with self._lock:
            made = made_directory(self._root, parts, path)
            try:
                with opened_directory(self._root, parts, path) as handle:
                    before = status_of(handle, name, path)
                    write_whole(handle, name, path, data, before, stop.check)
            except BaseException:
                unmade(self._root, made)
                raise
        return {'path': path, 'bytes': len(data), 'created': before is None}

    def _edit(self, path: str, edits: Sequence[Edit], stop: Stop) -> JSON:
        parts, name = self._split(path)
        most = self.config.max_write_bytes
        with self._lock, opened_directory(self._root, parts, path) as handle:
            with opened_file(handle, name, path) as (file, before):
                status_of(handle, name, path)  # refuses what may not be written
                content = read_up_to(file, most + 1, stop.check)
            self._check_size(path, content)
            data = edited(content, edits, path)
            self._check_size(path, data)
            write_whole(handle, name, path, data, before, stop.check)
        return {'path': path, 'bytes': len(data), 'edits': len(edits)}

    def _check_size(self, path: str, data: bytes) -> None:
        most = self.config.max_write_bytes
        if len(data) > most:
            raise Refusal(path, 'too_large', f'is larger than the {most:,} bytes that may be written')


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        note = 'some bytes are no UTF-8 and are shown as \ufffd: write_file would lose them, edit_file keeps them'
        return {'text': data.decode(errors='replace'), 'note': note}
