"""The chunks of a streamed answer of Chat Completions to parts (platform.openai.com/docs/api-reference/chat-streaming)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    File,
    Finished,
    Folder,
    LamellaError,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Status,
    StreamPart,
    TextDelta,
    TextPart,
    ToolRequested,
)
from lamella.wire._openai_chat_answer import audio_part, content_parts, media_of, whole_calls
from lamella.wire._openai_chat_calls import reasoning_text, refusal_part
from lamella.wire._openai_chat_facts import Facts, sources_of
from lamella.wire._openai_chat_pieces import CallPieces
from lamella.wire._openai_chat_quick import text_of_chunk
from lamella.wire._openai_json import (
    Malformed,
    dict_or_empty,
    list_or_empty,
    parse,
    shown,
    text_or_none,
)
from lamella.wire._openai_media import from_base64
from lamella.wire.errors import error_from_event
from lamella.wire.sse import Event

MISSES = 8


class ChatStreamDecoder:
    """One streamed answer. Raises LamellaError with `partial`, what had arrived, for an error inside the stream.

    The answer is complete at `[DONE]`, or at the end of the body once a finish reason has come: not every compatible server
    sends `[DONE]`. The usage follows in a chunk of its own, so `Finished` and the tool requests wait for the end.

    After the first chunk, chunks of nothing but text take a short way, until several in a row were something else.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._facts = Facts(mark)
        self._calls = CallPieces(mark)
        self._folder = Folder()
        self._details: list[JSON] = []
        self._audio = bytearray()
        self._audio_facts: JSON = {}
        self._reasoned = self._spoke = self._started = self._ended = False
        self._misses = MISSES

    def feed(self, event: Event) -> Sequence[StreamPart]:
        data = event.data
        if self._misses < MISSES and not self._ended:
            try:
                part = TextDelta(text_of_chunk(data))
            except (ValueError, RecursionError):
                self._misses += 1
            else:
                self._misses = 0
                self._folder.add(part)
                return (part,)
        return self._read(event, data)

    def _read(self, event: Event, data: str) -> Sequence[StreamPart]:
        if data.startswith('[DONE]'):
            return self._end()
        if not data or data.isspace() or self._ended:
            return ()
        parts: list[StreamPart] = []
        try:
            self._chunk(parse(data), event.event, parts)
        except Malformed as error:
            raise self._failure('INTERNAL', f'the provider sent a malformed chunk: {error}') from error
        for part in parts:
            self._folder.add(part)
        return parts

    def finish(self) -> Sequence[StreamPart]:
        if self._ended or self._facts.finish is not None:
            return self._end()
        raise self._failure('UNAVAILABLE', 'the stream ended before the answer was complete: the connection was cut')

    def _failure(self, status: Status, message: str) -> LamellaError:
        return LamellaError(status, message, partial=self._folder.response() if self._started else None)

    def _chunk(self, chunk: Any, event: str, parts: list[StreamPart]) -> None:
        if type(chunk) is not dict:
            raise Malformed('the chunk', f'is {shown(chunk)}: an object was expected')
        if chunk.get('error') or event == 'error':
            raise error_from_event(chunk, partial=self._folder.response() if self._started else None)
        self._facts.read_root(chunk)
        if not self._started:
            self._started, self._misses = True, 0
            parts.append(ResponseStarted(self._facts.model, self._facts.id, self._facts.metadata() or None))
        choices = chunk.get('choices')
        if type(choices) is list:
            for choice in choices:
                self._choice(choice, parts)
        elif choices is not None:
            raise Malformed('choices', f'is {shown(choices)}: give a list')
        elif 'usage' not in chunk:
            parts.append(Raw(chunk))

    def _choice(self, choice: Any, parts: list[StreamPart]) -> None:
        if type(choice) is not dict:
            raise Malformed('choices[0]', f'is {shown(choice)}: give an object')
        if choice.get('index'):
            self._facts.choices = 2
            return
        self._facts.read_choice(choice)
        delta = choice.get('delta')
        if type(delta) is not dict:
            if delta is not None:
                raise Malformed('choices[0].delta', f'is {shown(delta)}: give an object')
            return
        content = delta.get('content')
        if len(delta) == 1 and type(content) is str:  # most chunks
            if content:
                parts.append(TextDelta(content))
            if not self._spoke:  # the reasoning is over
                self._spoke, self._misses = True, 0
            return
        self._delta(delta, content, parts)

    def _delta(self, delta: JSON, content: Any, parts: list[StreamPart]) -> None:
        if (reasoning := reasoning_text(delta)) is not None:
            self._reasoned = True
            parts.append(ReasoningDelta(reasoning))
        self._note_details(list_or_empty(delta.get('reasoning_details')))
        if content:
            self._content(content, parts)
        self._facts.read_message(delta)
        self._calls.add(delta, parts)
        parts += sources_of(delta, self._mark)
        if delta.get('images'):
            parts += [File(media) for media in media_of({'images': delta['images']}, self._mark)]
        if delta.get('audio'):
            self._note_audio(dict_or_empty(delta['audio']), parts)

    def _content(self, content: Any, parts: list[StreamPart]) -> None:
        for part in content_parts(content, self._mark):
            if type(part) is TextPart:
                parts.append(TextDelta(part.text))
            elif type(part) is DataPart:
                parts.append(Raw(part.data, 0, True, part.metadata))
            else:
                self._reasoned = True
                parts.append(ReasoningDelta(part.text))  # type: ignore[union-attr]

    def _note_details(self, details: list[Any]) -> None:
        """Pieces of one entry follow each other: their text is joined, what else they say is taken over."""
        for detail in details:
            if not isinstance(detail, dict):
                continue
            last = self._details[-1] if self._details else {}
            if last and last.get('type') == detail.get('type') and last.get('index') == detail.get('index'):
                joined = {key: _joined(last.get(key), value) for key, value in detail.items() if value is not None}
                self._details[-1] = {**last, **joined}
            else:
                self._details.append(detail)

    def _note_audio(self, audio: JSON, parts: list[StreamPart]) -> None:
        self._audio += from_base64(text_or_none(audio.get('data')) or '') or b''
        self._audio_facts.update({key: value for key, value in audio.items() if key not in ('data', 'transcript')})
        if transcript := text_or_none(audio.get('transcript')):
            parts.append(TextDelta(transcript))

    def _end(self) -> Sequence[StreamPart]:
        if self._ended:
            return ()
        if not self._started:
            raise self._failure('UNAVAILABLE', 'the stream ended before an answer began')
        self._ended = True
        parts = list(self._last_parts())
        for part in parts:
            self._folder.add(part)
        return parts

    def _last_parts(self) -> Iterator[StreamPart]:
        facts, mark = self._facts, self._mark
        if self._details:
            details = {mark: {'reasoning_details': self._details}}
            yield ReasoningDelta(redacted=not self._reasoned, metadata=details)
        if facts.refusal:
            refusal = refusal_part(''.join(facts.refusal), mark)
            yield Raw(refusal.data, 0, True, refusal.metadata)
        calls, cut = whole_calls(self._calls.requests(), facts.finish)
        for index, call in enumerate(calls):
            yield ToolRequested(call.tool_request, index, call.metadata)
        if self._audio:
            yield File(audio_part(bytes(self._audio), self._audio_facts, mark))
        yield Finished(
            finish_reason=facts.finish_reason(bool(calls)),
            usage=facts.usage,
            model=facts.model,
            id=facts.id,
            finish_message=facts.finish_message,
            metadata=facts.metadata() or None,
            warnings=(*facts.warnings(), *cut),
        )


def _joined(before: Any, value: Any) -> Any:
    return before + value if isinstance(before, str) and isinstance(value, str) and before != value else value
