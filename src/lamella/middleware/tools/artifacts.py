"""`Artifacts`: tools to list, read and write the files of the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field

from lamella.core.artifacts import Artifact, ArtifactInfo
from lamella.core.artifacts import Artifacts as Kept
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.tools import Tool, ToolContext, tool_of
from lamella.middleware._fields import Count, Switch
from lamella.types import JSON, ConfigError, LamellaError, MediaPart, ToolError

Ctx = GenerateMiddlewareContext
_AS_MEDIA = ('image/', 'audio/', 'video/', 'application/pdf')
Name = Annotated[str, Field(min_length=1, max_length=256, description='The name of the artifact, such as report.md.')]


class ArtifactsConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Artifacts`."""

    readonly: Annotated[Switch, Field(description='Only the tools that look: nothing is written or deleted.')] = False
    tool_name_prefix: Annotated[
        str, Field(pattern=r'^[A-Za-z0-9_.-]{0,40}$', description='What the names of the tools begin with.')
    ] = ''
    max_read_bytes: Annotated[Count, Field(description='A larger artifact is not given to the model.')] = 262_144
    max_write_bytes: Annotated[Count, Field(description='A larger artifact is not written.')] = 1_048_576


class ArtifactsOptions(TypedDict, total=False):
    """The keywords of `Artifacts`."""

    readonly: bool
    tool_name_prefix: str
    max_read_bytes: int
    max_write_bytes: int


class Artifacts(BaseMiddleware[ArtifactsConfig]):
    """Gives the model the tools `list_artifacts()` and `read_artifact(name, version=None)` and, unless `readonly`,
    `write_artifact(name, content, content_type='text/plain')` and `delete_artifact(name)`, for the artifacts of the run's
    session.

    Writing makes a new version, and older ones can still be read. Texts are returned as they are; images, sounds and PDFs as
    media; other bytes are refused, and so is what is too large: errors that the model reads. A run without a session is an
    error (FAILED_PRECONDITION) at the first call of a tool: use `generate(session=…)`.

    Events: `artifacts.read(name, version, bytes)`, `artifacts.wrote(name, version, bytes)`, `artifacts.deleted(name)`.
    """

    def __init__(self, config: ArtifactsConfig | None = None, **options: Unpack[ArtifactsOptions]) -> None:
        super().__init__(config, **options)
        functions: list[Callable[..., Any]] = [self._list_artifacts, self._read_artifact]
        if not self.config.readonly:
            functions += [self._write_artifact, self._delete_artifact]
        prefix = self.config.tool_name_prefix
        self._tools = tuple(tool_of(function, prefix + function.__name__[1:]) for function in functions)

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        return self._tools

    async def _list_artifacts(self, ctx: ToolContext) -> list[JSON]:
        """List the artifacts of this conversation: name, latest version, type and size of each."""
        return [_described(info) for info in await _kept(ctx).list()]

    async def _read_artifact(
        self,
        ctx: ToolContext,
        name: Name,
        version: Annotated[int | None, Field(ge=1, description='An older version; the latest when left out.')] = None,
    ) -> Any:
        """Read an artifact: its text, or the image or document."""
        artifact = await _found(_kept(ctx), name, version)
        output = self._output(artifact)
        ctx.run.emit('artifacts.read', name=name, version=artifact.info.version, bytes=artifact.info.size)
        return output

    async def _write_artifact(
        self,
        ctx: ToolContext,
        name: Name,
        content: Annotated[str, Field(description='The whole text.')],
        content_type: Annotated[str, Field(pattern=r'^[\w.+-]{1,60}/[\w.+-]{1,60}$')] = 'text/plain',
    ) -> JSON:
        """Keep a text as an artifact. Under a name that is there it becomes a new version."""
        size = len(content.encode('utf-8', 'replace'))
        if size > self.config.max_write_bytes:
            raise ToolError(f'{name} has {size:,} bytes, more than {self.config.max_write_bytes:,}: write less at once')
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in content):
            raise ToolError(f'{name}: the text has a lone surrogate, which UTF-8 cannot hold')
        info = await _kept(ctx).save(name, content, content_type)
        ctx.run.emit('artifacts.wrote', name=name, version=info.version, bytes=info.size)
        return _described(info)

    async def _delete_artifact(self, ctx: ToolContext, name: Name) -> JSON:
        """Remove an artifact with all its versions."""
        if not await _kept(ctx).delete(name):
            await _found(_kept(ctx), name, None)
        ctx.run.emit('artifacts.deleted', name=name)
        return {'deleted': name}

    def _output(self, artifact: Artifact) -> Any:
        info = artifact.info
        if info.size > self.config.max_read_bytes:
            raise ToolError(f'{info.name} has {info.size:,} bytes, more than {self.config.max_read_bytes:,}')
        if info.content_type.startswith(_AS_MEDIA):
            return MediaPart(data=artifact.data, content_type=info.content_type, name=info.name)
        try:
            return artifact.text
        except UnicodeDecodeError:
            raise ToolError(f'{info.name} is {info.content_type}, which is no text') from None


def _kept(ctx: ToolContext) -> Kept:
    session = ctx.session
    if session is None:
        raise ConfigError('Artifacts needs a session: use generate(session=ai.session(…))')
    return session.artifacts


async def _found(kept: Kept, name: str, version: int | None) -> Artifact:
    """Raises ToolError for one that is not there, with the nearest names."""
    try:
        return await kept.load(name, version)
    except LamellaError as error:
        if error.status != 'NOT_FOUND':
            raise
        raise ToolError(error.message) from error


def _described(info: ArtifactInfo) -> JSON:
    return {'name': info.name, 'version': info.version, 'content_type': info.content_type, 'bytes': info.size}
