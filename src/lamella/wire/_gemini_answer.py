"""Gemini's answers, whole and streamed, to parts (ai.google.dev/api/generate-content#v1beta.GenerateContentResponse).

A whole answer is read as a stream of one chunk, so that both give the same response. Text that arrives in several parts is
one text, as the cuts of a stream are chance; a part with a thought signature or other fields of its own stays apart, as
Google asks (ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    File,
    Folder,
    LamellaError,
    MediaPart,
    ModelResponse,
    Part,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    StreamPart,
    TextDelta,
    TextPart,
    ToolRequested,
    ToolRequestPart,
    ToolResponsePart,
)
from lamella.wire._gemini_args import CallInPieces, is_piece
from lamella.wire._gemini_facts import Facts
from lamella.wire._gemini_json import Malformed, at, each, fields, parsed
from lamella.wire._gemini_parts import decode_part
from lamella.wire._gemini_status import with_details
from lamella.wire.errors import error_from_event
from lamella.wire.sse import Event

CUT = "the answer ended without a finishReason: the connection was cut or the model's server gave up"

_ROLE = {'role'}
_INDEX = {'index'}


class AnswerDecoder:
    """A `StreamDecoder`; `response()` is what has arrived so far."""

    def __init__(self) -> None:
        self.facts = Facts()
        self._folder = Folder()
        self._index = 0
        self._run: type[Part] | None = None  # the kind of the text run that is being continued
        self._started = False
        self._pending: CallInPieces | None = None

    def feed(self, event: Event) -> Sequence[StreamPart]:
        if not event.data or event.data == '[DONE]':  # some compatible servers end like OpenAI
            return ()
        try:
            chunk = parsed(event.data)
            if (delta := self._plain_text(chunk)) is None:
                return self.chunk(chunk)
            self._folder.add(delta)
            return (delta,)
        except (Malformed, RecursionError) as error:
            raise malformed(error, self._partial()) from error

    def chunk(self, value: Any) -> list[StreamPart]:
        """The parts of one chunk, or of a list of them (a stream without `alt=sse`). Raises Malformed."""
        chunks = value if isinstance(value, list) else [value]
        return [part for chunk in chunks for part in self._read(fields(chunk))]

    def finish(self) -> Sequence[StreamPart]:
        try:
            if not self.facts.ended:
                raise LamellaError('UNAVAILABLE', CUT, partial=self._partial())
            return self.end()
        except Malformed as error:
            raise malformed(error, self._partial()) from error

    def end(self) -> list[StreamPart]:
        """The last parts, whether or not the answer says that it is finished. Raises Malformed."""
        parts = self._close_call()
        return self._note([*parts, self.facts.finished()])

    def response(self) -> ModelResponse:
        return self._folder.response()

    def _partial(self) -> ModelResponse | None:
        return self._folder.response() if self._folder.has_content else None

    def _note(self, parts: list[StreamPart]) -> list[StreamPart]:
        for part in parts:
            self._folder.add(part)
        return parts

    def _read(self, chunk: JSON) -> list[StreamPart]:
        if 'error' in chunk:
            raise with_details(error_from_event(chunk, partial=self._partial()), chunk)
        self.facts.take(chunk)
        parts: list[StreamPart] = []
        if not self._started:
            self._started = True
            parts.append(ResponseStarted(self.facts.model, self.facts.id))
        self._content(self.facts.candidate, parts)
        return self._note([*parts, *self.facts.new_sources()])

    def _plain_text(self, chunk: Any) -> TextDelta | None:
        """What nearly every chunk is, read without ceremony: one piece of plain text, and nothing new beside it."""
        match chunk:
            case {
                'candidates': [{'content': {'parts': [{'text': str(text), **more}], **content}, **candidate}],
                'modelVersion': self.facts.model,
                'responseId': self.facts.id,
                'usageMetadata': dict(usage),
                **rest,
            }:
                alone = not (more or rest) and text and self._started and self._pending is None
                if not alone or content.keys() - _ROLE or candidate.keys() - _INDEX or candidate.get('index'):
                    return None
                self.facts.take_usage(usage)
                return TextDelta(text, self._block_of(TextPart))
        return None

    def _content(self, candidate: JSON, parts: list[StreamPart]) -> None:
        if 'content' in candidate:
            content = at('candidates[0].content', fields, candidate['content'])
            each('candidates[0].content.parts', lambda value: self._part(value, parts), content.get('parts'))

    def _part(self, value: Any, parts: list[StreamPart]) -> None:
        part = fields(value)
        if 'functionCall' in part and self._took_piece(part, parts):
            return
        parts += self._close_call()
        decoded = decode_part(part)
        if isinstance(decoded, TextPart) and not decoded.text and not decoded.metadata:
            return
        parts.append(self._as_stream_part(decoded, value))

    def _as_stream_part(self, part: Part, value: Any) -> StreamPart:
        index = self._block(part)
        match part:
            case TextPart():
                return TextDelta(part.text, index, part.metadata)
            case ReasoningPart():
                return ReasoningDelta(part.text, index, part.signature, part.redacted, part.metadata)
            case ToolRequestPart():
                self.facts.has_calls = True
                return ToolRequested(part.tool_request, index, part.metadata)
            case MediaPart():
                return File(part, index)
            case DataPart():
                return Raw(part.data, index, True, part.metadata)
            case ToolResponsePart():  # no answer has one, but a stream part for it would mean that a tool ran
                return Raw(value, index, True, {'gemini': {}})

    def _block(self, part: Part) -> int:
        """The number of this part's block: that of the text run it continues, or the next."""
        return self._block_of(type(part) if isinstance(part, (TextPart, ReasoningPart)) and not part.metadata else None)

    def _block_of(self, plain: type[Part] | None) -> int:
        if plain is None or plain is not self._run:
            self._index += 1
        self._run = plain
        return self._index - 1

    def _took_piece(self, part: JSON, parts: list[StreamPart]) -> bool:
        call = at('functionCall', fields, part['functionCall'])
        if self._pending is not None and 'name' not in call:
            self._pending.add(call)
            if not call.get('willContinue'):
                parts += self._close_call()
            return True
        if is_piece(call) and 'name' in call:
            parts += self._close_call()
            self._pending = CallInPieces(part)
            return True
        return not call  # the end of a call that has already ended

    def _close_call(self) -> list[StreamPart]:
        if self._pending is None:
            return []
        part, self._pending = self._pending.finished(), None
        return [self._as_stream_part(part, None)]


def decode_answer(value: Any) -> ModelResponse:
    """A whole answer, or the JSON array of chunks that a stream without `alt=sse` is. Raises Malformed."""
    decoder = AnswerDecoder()
    decoder.chunk(value)
    if not decoder.facts.has_answer:
        raise Malformed('is missing: this is no answer of generateContent', 'candidates')
    decoder.end()
    return decoder.response()


def malformed(error: Exception, partial: ModelResponse | None = None) -> LamellaError:
    problem = str(error) if isinstance(error, Malformed) else 'is nested too deeply to be read'
    return LamellaError('INTERNAL', f"Gemini's answer cannot be read: {problem.strip()}", partial=partial)
