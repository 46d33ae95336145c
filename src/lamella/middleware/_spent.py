"""What a call has used of its tokens: as reported, and estimated where nobody reported."""

from __future__ import annotations

from lamella.core.estimate import estimate_json, estimate_message, estimate_text
from lamella.types import (
    LamellaError,
    ModelResponse,
    ReasoningDelta,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
    Usage,
)

# A provider that answers with one of these has not worked on the request.
NOT_PROCESSED = frozenset(
    (
        'INVALID_ARGUMENT',
        'NOT_FOUND',
        'ALREADY_EXISTS',
        'PERMISSION_DENIED',
        'UNAUTHENTICATED',
        'RESOURCE_EXHAUSTED',
        'FAILED_PRECONDITION',
        'OUT_OF_RANGE',
        'UNIMPLEMENTED',
    )
)
_SAMPLE = 2000


class Heard:
    """Counts what a stream has said so far, without keeping it: the beginning stands for the rest."""

    __slots__ = ('_characters', '_sample', '_tools')

    def __init__(self) -> None:
        self._sample, self._characters, self._tools = '', 0, 0

    def add(self, part: StreamPart) -> None:
        kind = type(part)
        if kind is TextDelta or kind is ReasoningDelta:
            text: str = part.text  # type: ignore[union-attr, assignment]
        elif kind is ToolInputDelta:
            text = part.delta  # type: ignore[union-attr]
        elif kind is ToolRequested:
            self._tools += estimate_json(part.tool_request.input)  # type: ignore[union-attr]
            return
        else:
            return
        self._characters += len(text)
        if len(self._sample) < _SAMPLE:
            self._sample += text

    @property
    def tokens(self) -> int:
        if not self._sample:
            return self._tools
        return max(self._tools, round(estimate_text(self._sample) * self._characters / len(self._sample)))


def tokens_of(usage: Usage | None, input_tokens: int, output_tokens: int) -> int:
    """All tokens of a call; the estimates stand in for what was not reported."""
    if usage is None:
        return input_tokens + output_tokens
    if usage.total_tokens is not None:
        return usage.total_tokens
    said = usage.output_tokens if usage.output_tokens is not None else output_tokens
    return said + (usage.input_tokens if usage.input_tokens is not None else input_tokens)


def tokens_of_answer(response: ModelResponse, input_tokens: int) -> int:
    """All tokens of an answered call."""
    usage = response.usage
    if usage is not None and (usage.total_tokens is not None or usage.output_tokens is not None):
        return tokens_of(usage, input_tokens, 0)
    return tokens_of(usage, input_tokens, estimate_message(response.message))


def tokens_of_failure(error: BaseException, input_tokens: int, heard: int = 0) -> int:
    """All tokens of a call that was sent and failed, or was left: what it was asked, and what it had said."""
    if isinstance(error, LamellaError):
        if error.partial is not None and error.partial.usage is not None:
            return tokens_of_answer(error.partial, input_tokens)
        if error.partial is not None:
            heard = max(heard, estimate_message(error.partial.message))
        elif error.status in NOT_PROCESSED and not heard:
            return 0
    return input_tokens + heard
