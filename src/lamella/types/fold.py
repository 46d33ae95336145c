"""From a stream's parts to a response, and back. The only way from one to the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lamella.types.base import JSON
from lamella.types.errors import LamellaError
from lamella.types.messages import Message
from lamella.types.parts import DataPart, MediaPart, Part, ReasoningPart, TextPart, ToolRequestPart, ToolResponsePart
from lamella.types.responses import ModelResponse
from lamella.types.stream import (
    File,
    Finished,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
    ToolResponded,
)
from lamella.types.usage import Usage, add_usage


def fold(parts: Iterable[StreamPart]) -> ModelResponse:
    """The response that a stream's parts add up to.

    Over several turns it is the last turn's, with the usage of all. Without a `Finished` the finish reason is `unknown`.
    """
    folder = Folder()
    for part in parts:
        folder.add(part)
    return folder.response()


class Folder:
    """Adds up parts one by one; `response()` may be asked at any time."""

    __slots__ = (
        '_blocks',
        '_finished',
        '_paid',
        '_responses',
        '_sources',
        '_started',
        '_text',
        '_text_index',
        'has_content',
    )

    def __init__(self) -> None:
        self._paid: Usage | None = None
        self._clear()

    def _clear(self) -> None:
        self._blocks: dict[tuple[type, int], list[Any]] = {}
        self._text_index = -1
        self._text: list[str] = []
        self._sources: list[Source] = []
        self._responses: list[ToolResponsePart] = []
        self._started: ResponseStarted | None = None
        self._finished: Finished | None = None
        self.has_content = False

    def add(self, part: StreamPart) -> None:
        kind: type = type(part)
        if isinstance(part, TextDelta):
            if part.index == self._text_index and part.metadata is None:
                self._text.append(part.text)
            else:
                self._add_text(part)
            return
        add = _ADD.get(kind)
        if add is None:
            raise LamellaError(
                'FAILED_PRECONDITION', f'{kind.__name__} in a stream: a stream is made of parts such as TextDelta'
            )
        add(self, part)

    def _block(self, kind: type, index: int, new: list[Any]) -> list[Any]:
        self.has_content = True
        return self._blocks.setdefault((kind, index), new)

    def _add_text(self, part: TextDelta) -> None:
        if part.index != self._text_index:
            self._text_index = part.index
            self._text = self._block(TextDelta, part.index, [[], None])[0]
        self._text.append(part.text)
        if part.metadata is not None:
            block = self._blocks[TextDelta, part.index]
            block[1] = {**(block[1] or {}), **part.metadata}

    def _add_reasoning(self, part: ReasoningDelta) -> None:
        block = self._block(ReasoningDelta, part.index, [[], None, False, None])
        block[0].append(part.text)
        if part.signature is not None:
            block[1] = (block[1] or '') + part.signature
        block[2] = block[2] or part.redacted
        if part.metadata is not None:
            block[3] = {**(block[3] or {}), **part.metadata}

    def _add_tool_request(self, part: ToolRequested) -> None:
        self._block(ToolRequested, self._free(ToolRequested, part.index), [part])

    def _add_file(self, part: File) -> None:
        self._block(File, self._free(File, part.index), [part.media])

    def _add_source(self, part: Source) -> None:
        self.has_content = True
        self._sources.append(part)

    def _add_tool_response(self, part: ToolResponded) -> None:
        self._responses.append(ToolResponsePart(part.tool_response, part.metadata))

    def _add_start(self, part: ResponseStarted) -> None:
        if self._finished is not None:
            self._paid = add_usage(self._paid, self._finished.usage)
        self._clear()
        self._started = part

    def _add_restart(self, part: Restarted) -> None:
        self._clear()

    def _add_finish(self, part: Finished) -> None:
        self._finished = part

    def _add_tool_input(self, part: ToolInputDelta) -> None:
        self.has_content = True

    def _add_raw(self, part: Raw) -> None:
        if part.keep:
            self._block(Raw, self._free(Raw, part.index), [part])

    def _free(self, kind: type, index: int) -> int:
        """A block number of its own: several requests or files without numbers stay several."""
        while (kind, index) in self._blocks:
            index += 1
        return index

    def content(self) -> tuple[Part, ...]:
        return tuple([_part(kind, block) for (kind, _), block in self._blocks.items()])

    def response(self) -> ModelResponse:
        started, finished = self._started or ResponseStarted(), self._finished
        if finished is None:
            finished = Finished(finish_reason='unknown')
        return ModelResponse(
            message=Message('assistant', self.content()),
            finish_reason=finished.finish_reason,  # type: ignore[arg-type]
            finish_message=finished.finish_message,
            usage=add_usage(self._paid, finished.usage),
            model=finished.model or started.model,
            id=finished.id or started.id,
            sources=tuple(self._sources),
            metadata=_merged(started.metadata, finished.metadata),
            warnings=finished.warnings,
            tool_responses=tuple(self._responses),
        )

    def tell(self, error: LamellaError) -> None:
        """Let the error of a stream that failed say what had arrived, unless it says that itself. What it says of the usage
        stays."""
        if self.has_content and (error.partial is None or not error.partial.message.content):
            usage = None if error.partial is None else error.partial.usage
            error.partial = self.response().replace(usage=usage)


_ADD: dict[type, Any] = {
    ReasoningDelta: Folder._add_reasoning,
    ToolInputDelta: Folder._add_tool_input,
    ToolRequested: Folder._add_tool_request,
    ToolResponded: Folder._add_tool_response,
    Source: Folder._add_source,
    File: Folder._add_file,
    ResponseStarted: Folder._add_start,
    Restarted: Folder._add_restart,
    Finished: Folder._add_finish,
    Raw: Folder._add_raw,
}


def _merged(a: JSON | None, b: JSON | None) -> JSON:
    return {**(a or {}), **(b or {})}


def _part(kind: type, block: list[Any]) -> Part:
    if kind is TextDelta:
        return TextPart(''.join(block[0]), block[1])
    if kind is ReasoningDelta:
        return ReasoningPart(''.join(block[0]), block[1], block[2], block[3])
    if kind is File:
        media: MediaPart = block[0]
        return media
    if kind is Raw:
        return DataPart(block[0].data, block[0].metadata)
    return ToolRequestPart(block[0].tool_request, block[0].metadata)


def unfold(response: ModelResponse) -> Iterator[StreamPart]:
    """The shortest stream that folds to this response (without interrupts, which no part carries)."""
    yield ResponseStarted(response.model, response.id)
    yield from unfold_content(response)
    yield finished_of(response)


def unfold_content(response: ModelResponse) -> Iterator[StreamPart]:
    """The content of a response as parts: no start, no end."""
    for index, part in enumerate(response.message.content):
        kind = type(part)
        if kind is TextPart:
            yield TextDelta(part.text, index, part.metadata)  # type: ignore[union-attr]
        elif kind is ReasoningPart:
            yield ReasoningDelta(part.text, index, part.signature, part.redacted, part.metadata)  # type: ignore[union-attr]
        elif kind is ToolRequestPart:
            yield ToolRequested(part.tool_request, index, part.metadata)  # type: ignore[union-attr]
        elif kind is MediaPart:
            yield File(part, index)  # type: ignore[arg-type]
        elif kind is DataPart:
            yield Raw(part.data, index, True, part.metadata)  # type: ignore[union-attr]
    yield from response.sources
    for answered in response.tool_responses:
        yield ToolResponded(answered.tool_response, answered.metadata)


def finished_of(response: ModelResponse, stop_reason: str | None = None) -> Finished:
    """The closing part of a response."""
    return Finished(
        finish_reason=response.finish_reason,
        usage=response.usage,
        model=response.model,
        id=response.id,
        finish_message=response.finish_message,
        metadata=response.metadata or None,
        warnings=response.warnings,
        stop_reason=stop_reason,
    )
