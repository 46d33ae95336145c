"""A directory that belongs to one sandboxed call, and its removal whatever the tool has left there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lamella.middleware._sandbox_clean import remove
from lamella.middleware._threads import to_the_end


@asynccontextmanager
async def own_directory() -> AsyncIterator[str]:
    """Anybody may write in it: the tool may be another user."""
    home = tempfile.mkdtemp(prefix='sandbox-')
    os.chmod(home, 0o777)
    try:
        yield home
    finally:
        await to_the_end(lambda: _gone(home))


def _gone(home: str) -> None:
    with suppress(FileNotFoundError):  # the supervisor has seen to it
        remove(home)
