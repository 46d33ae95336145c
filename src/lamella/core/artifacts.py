"""Artifacts: the files of a session, kept in versions that never change."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from lamella.core.clock import Clock
from lamella.core.packing import pack, unpack
from lamella.core.session_record import SessionRecord, lost
from lamella.types import ConfigError, Data, LamellaError, UnknownNameError

MAX_ARTIFACT_BYTES = 16_777_216
_TEXT = 'text/plain; charset=utf-8'


class ArtifactInfo(Data, frozen=True):
    """One version of an artifact. Versions count from 1; `size` is in bytes, `created_s` in seconds since 1970."""

    name: str
    version: int
    content_type: str
    size: int
    created_s: float


class Artifact(Data, frozen=True):
    """One version of an artifact with its content."""

    info: ArtifactInfo
    data: bytes

    @property
    def text(self) -> str:
        """The content as UTF-8. Raises UnicodeDecodeError for bytes that are no text."""
        return self.data.decode()


class _Version(Data, frozen=True):
    number: int
    content_type: str
    size: int
    created_s: float
    place: str


class _Index(Data, frozen=True):
    """Names and their versions. `fence` is the newest turn's token, as in the session's head."""

    fence: int = 0
    names: Mapping[str, tuple[_Version, ...]] = {}


class Artifacts:
    """The artifacts of one session. Saving under a name that is there makes a new version."""

    def __init__(self, record: SessionRecord, clock: Clock, fence: int | None) -> None:
        self._record, self._clock, self._fence = record, clock, fence
        self._key = f'{record.key}:artifacts'

    async def save(self, name: str, content: bytes | str, content_type: str | None = None) -> ArtifactInfo:
        """Keep bytes or text under a name. The new version.

        `content_type` is a MIME type; plain text for a string and `application/octet-stream` for bytes when left out.
        Raises ConfigError for a name that is empty or longer than 1,024 characters, OUT_OF_RANGE for more than 16 MiB.
        """
        data = _checked(name, content)
        kind = content_type or (_TEXT if isinstance(content, str) else 'application/octet-stream')
        await self._announce()
        version = _Version(0, kind, len(data), self._clock.time(), secrets.token_hex(16))
        await self._record.store.put(self._place(version), data, expire_s=self._record.ttl_s)

        def add(index: _Index) -> _Index:
            there = index.names.get(name, ())
            numbered = version.replace(number=there[-1].number + 1 if there else 1)
            return index.replace(names={**index.names, name: (*there, numbered)})

        return _info(name, (await self._change(add)).names[name][-1])

    async def load(self, name: str, version: int | None = None) -> Artifact:
        """One version with its content; the latest when left out. Raises NOT_FOUND, with the nearest names."""
        index = await self._index()
        found = index.names.get(name)
        if not found:
            raise UnknownNameError('artifact', name, sorted(index.names))
        wanted = next((one for one in found if one.number == version), None) if version is not None else found[-1]
        stored = None if wanted is None else await self._record.store.get(self._place(wanted))
        if wanted is None or stored is None:
            raise LamellaError('NOT_FOUND', f'artifact {name!r} has no version {version}')
        return Artifact(_info(name, wanted), stored.value)

    async def list(self) -> tuple[ArtifactInfo, ...]:
        """The latest version of each, by name."""
        names = (await self._index()).names
        return tuple(_info(name, names[name][-1]) for name in sorted(names))

    async def versions(self, name: str) -> tuple[ArtifactInfo, ...]:
        """All versions, the oldest first; none for an unknown name."""
        return tuple(_info(name, version) for version in (await self._index()).names.get(name, ()))

    async def delete(self, name: str) -> bool:
        """Remove all versions. Whether there were any."""
        removed: tuple[_Version, ...] = ()

        def drop(index: _Index) -> _Index:
            nonlocal removed
            removed = index.names.get(name, ())
            return index.replace(names={other: there for other, there in index.names.items() if other != name})

        if name not in (await self._index()).names:
            return False
        await self._change(drop)
        await self._remove(removed)
        return bool(removed)

    async def erase(self) -> None:
        """Remove everything."""
        for versions in (await self._index()).names.values():
            await self._remove(versions)
        await self._record.store.delete(self._key)

    async def take_over(self) -> None:
        """For the engine: from now on, turns with an older token than this one's write nothing."""
        await self._change(lambda index: index)

    def _place(self, version: _Version) -> str:
        return f'{self._record.key}:artifact:{version.place}'

    async def _remove(self, versions: tuple[_Version, ...]) -> None:
        for version in versions:
            await self._record.store.delete(self._place(version))

    async def _announce(self) -> None:
        """Note in the head that there are artifacts: a new turn then fences them off too."""
        if not (await self._record.head()).has_artifacts:
            await self._record.change(lambda head: head.replace(has_artifacts=True), self._fence)

    async def _index(self) -> _Index:
        return (await self._stored())[0]

    async def _stored(self) -> tuple[_Index, int]:
        stored = await self._record.store.get(self._key)
        if stored is None:
            return _Index(), 0
        return unpack(stored.value, _Index, 'the list of artifacts'), stored.version

    async def _change(self, change: Callable[[_Index], _Index]) -> _Index:
        while True:
            index, version = await self._stored()
            if self._fence is not None and index.fence > self._fence:
                raise lost(self._record.id)
            changed = change(index).replace(fence=max(index.fence, self._fence or 0))
            value = pack(changed, 'the list of artifacts')
            written = await self._record.store.compare_and_put(self._key, version, value, expire_s=self._record.ttl_s)
            if written is not None:
                return changed


def _checked(name: object, content: object) -> bytes:
    if not isinstance(name, str) or not 0 < len(name) <= 1_024:
        raise ConfigError(f'the name of an artifact is a text of 1 to 1,024 characters, not {str(name)[:80]!r}')
    if not isinstance(content, (str, bytes, bytearray)):
        raise ConfigError(f'artifact {name!r} is a {type(content).__name__}: give bytes or text')
    data = content.encode() if isinstance(content, str) else bytes(content)
    if len(data) > MAX_ARTIFACT_BYTES:
        raise LamellaError(
            'OUT_OF_RANGE', f'artifact {name!r} has {len(data):,} bytes, more than {MAX_ARTIFACT_BYTES:,}'
        )
    return data


def _info(name: str, version: _Version) -> ArtifactInfo:
    return ArtifactInfo(name, version.number, version.content_type, version.size, version.created_s)
