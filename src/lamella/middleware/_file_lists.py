"""What lies in a directory, and below it: bounded, in order, links shown and not followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from lamella.middleware._files import MAX_DEPTH, is_plain, opened_directory, trouble
from lamella.types import JSON, ToolError

Where = tuple[tuple[str, ...], JSON]  # a directory's names from the root on, and its entry


class Listing:
    """The entries found so far, no more than `limit`. A directory below that cannot be read says so in its entry."""

    def __init__(
        self, root: str, limit: int, recursive: bool, hidden: Callable[[str], bool], check: Callable[[], Any]
    ) -> None:
        self._root, self._limit, self._recursive = root, limit, recursive
        self._hidden, self._check = hidden, check
        self._entries: list[JSON] = []
        self._is_cut, self._unnameable = False, 0

    def of(self, parts: tuple[str, ...], path: str) -> JSON:
        """The listing as the model gets it. Raises ToolError when the directory itself cannot be read."""
        waiting = self._read(parts, path)
        while waiting and not self._is_cut:
            below, entry = waiting.pop()
            try:
                waiting += self._read(below, '/'.join(below))
            except ToolError as error:
                entry['error'] = str(error)
        return self._result()

    def _read(self, parts: tuple[str, ...], path: str) -> list[Where]:
        """Note the entries of one directory; the directories among them if they are to be read, the first one last."""
        if len(parts) > MAX_DEPTH:
            raise ToolError(f'more than {MAX_DEPTH} levels deep')
        with opened_directory(self._root, parts, path) as handle:
            try:
                found = sorted(self._found(handle), key=lambda item: item[0])
            except OSError as error:
                raise trouble(path, error) from None
        noted = [((*parts, name), _entry('/'.join((*parts, name)), status)) for name, status in found]
        self._entries += [entry for _, entry in noted]
        return [item for item in reversed(noted) if self._recursive and item[1]['type'] == 'directory']

    def _found(self, handle: int) -> Iterator[tuple[str, os.stat_result]]:
        """Names and status: when there are too many, the first ones that the system gives."""
        room, seen = self._limit - len(self._entries), 0
        with os.scandir(handle) as entries:
            for entry in entries:
                self._check()
                seen += 1
                if room <= 0 or seen > 100 * (self._limit + 1):
                    self._is_cut = True
                    return
                if self._hidden(entry.name):
                    continue
                if not is_plain(entry.name):
                    self._unnameable += 1
                    continue
                try:
                    status = os.stat(entry.name, dir_fd=handle, follow_symlinks=False)
                except FileNotFoundError:  # removed since
                    continue
                room -= 1
                yield entry.name, status

    def _result(self) -> JSON:
        result: JSON = {'entries': self._entries}
        if self._is_cut:
            result['cut'] = f'only {len(self._entries):,} entries are listed (max_entries), and there are more'
        if self._unnameable:
            result['left_out'] = f'{self._unnameable:,} entries whose names hold control characters or broken bytes'
        return result


def _entry(path: str, status: os.stat_result) -> JSON:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        kind = 'file' if status.st_nlink == 1 else 'hard link'
        return {'path': path, 'type': kind, 'bytes': status.st_size}
    if stat.S_ISLNK(mode):
        return {'path': path, 'type': 'link'}
    return {'path': path, 'type': 'directory' if stat.S_ISDIR(mode) else 'special'}
