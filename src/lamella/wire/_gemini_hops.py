"""One answer over several requests, when it is longer than Gemini gives at once.

From Gemini 4 on a request ends with CONTINUATION and a `continuationToken` at 65,536 tokens (32,768 when not streamed), and the
same request with the token goes on from there (ai.google.dev/gemini-api/docs/generate-content/long-decode).
"""

from __future__ import annotations

from collections.abc import Iterable

from lamella.types import (
    File,
    Finished,
    ModelRequest,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolRequested,
    Usage,
)
from lamella.types.usage import add_usage
from lamella.wire._gemini_json import extras_of

_BLOCKS = (TextDelta, ReasoningDelta, ToolRequested, File, Raw)


class Hops:
    """Joins the streams of the requests: one start, one end, blocks numbered through, the usage of all.

    `token` is the one to go on with after a `Finished`, or `None` when the answer is complete.
    """

    def __init__(self) -> None:
        self.token: str | None = None
        self.count = 0
        self._usage: Usage | None = None
        self._shift: int | None = 0  # what the numbers of this request's blocks grow by; unknown until its first block
        self._last = -1
        self._run: type[StreamPart] | None = None  # the kind of text that the last block was, if it was plain

    def take(self, part: StreamPart) -> StreamPart | None:
        """The part as the reader gets it, or `None` when it is not for him."""
        if isinstance(part, Finished):
            return self._finish(part)
        if isinstance(part, ResponseStarted):
            return None if self.count else part
        return self._numbered(part) if isinstance(part, _BLOCKS) else part

    def take_all(self, parts: Iterable[StreamPart]) -> list[StreamPart]:
        return [taken for part in parts if (taken := self.take(part)) is not None]

    def onward(self, request: ModelRequest) -> ModelRequest:
        """The request that goes on. The token replaces the answer so far, which Gemini keeps."""
        options = request.provider_options
        google = {**(options.get('google') or {}), 'continuationToken': self.token}
        return request.replace(provider_options={**options, 'google': google})

    def _finish(self, part: Finished) -> Finished | None:
        own = extras_of(part.metadata)
        token = own.get('continuationToken') if own.get('finishReason') == 'CONTINUATION' else None
        if not isinstance(token, str) or not token or token == self.token:
            self.token = None
            return part.replace(usage=add_usage(self._usage, part.usage)) if self.count else part
        self._usage = add_usage(self._usage, part.usage)
        self.token, self._shift = token, None
        self.count += 1
        return None

    def _numbered(self, part: TextDelta | ReasoningDelta | ToolRequested | File | Raw) -> StreamPart:
        plain = type(part) if isinstance(part, (TextDelta, ReasoningDelta)) and not part.metadata else None
        if self._shift is None:
            goes_on = plain is not None and plain is self._run
            self._shift = self._last + (0 if goes_on else 1) - part.index
        index = part.index + self._shift
        self._last, self._run = index, plain
        return part if self._shift == 0 else part.replace(index=index)
