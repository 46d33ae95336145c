"""The parts of an answer as the events of a streamed one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    DataPart,
    File,
    Finished,
    LamellaError,
    Part,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
)
from lamella.wire._anthropic_answer import AnswerWriter, ending, start_body
from lamella.wire._anthropic_errors import error_body
from lamella.wire._anthropic_json import extras_of
from lamella.wire.sse import encode_event


class _Tool:
    """A tool request whose input has begun to go out."""

    __slots__ = ('at', 'pieces')

    def __init__(self, at: int) -> None:
        self.at = at
        self.pieces: list[str] = []


class AnthropicStreamEncoder:
    """Events of `POST /v1/messages` with `stream`, from one answer's parts.

    Pieces of a tool's input go out as they come, and blocks of tools may overlap; a block of text or thinking ends where
    another begins. `feed` raises ABORTED when an answer that has begun to go out is to start over, and INTERNAL when a
    tool request is not what its pieces said: neither can be taken back on this wire.
    """

    __slots__ = ('_blocks', '_ended', '_key', '_model', '_next', '_started', '_tools')

    def __init__(self, model: str) -> None:
        self._model = model
        self._blocks = AnswerWriter([])
        self._next = 0
        self._key: tuple[type, int] | None = None  # the open block of text or thinking
        self._tools: dict[int, _Tool] = {}
        self._started = False
        self._ended = False

    def feed(self, part: StreamPart) -> bytes:
        handler = _PARTS.get(type(part))
        if handler is None or self._ended:
            return b''
        return handler(self, part) if type(part) is ResponseStarted else self._begin(None) + handler(self, part)

    def finish(self) -> bytes:
        """Nothing: `message_stop`, which goes out with `Finished`, is the end."""
        return b''

    def error(self, error: LamellaError) -> bytes:
        self._ended = True
        return _event('error', error_body(error))

    def _begin(self, part: ResponseStarted | None) -> bytes:
        if self._started:
            return b''
        self._started = True
        start = part or ResponseStarted()
        message = start_body(start.model or self._model, start.id or 'msg_0')
        if isinstance(counts := extras_of(start.metadata).get('usage'), dict):
            message['usage'] = {**message['usage'], **counts}
        return _event('message_start', {'message': message})

    def _restart(self, part: Restarted) -> bytes:
        if self._next:
            raise LamellaError(
                'ABORTED', f'the answer starts over ({part.reason}) after {self._next} blocks had been sent'
            )
        return b''

    # ── text and thinking ───────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, part: TextDelta) -> bytes:
        sent = self._enter((TextDelta, part.index), {'type': 'text', 'text': ''})
        if part.text:
            sent += self._delta({'type': 'text_delta', 'text': part.text})
        citations = extras_of(part.metadata).get('citations')
        for citation in citations if isinstance(citations, list) else ():
            sent += self._delta({'type': 'citations_delta', 'citation': citation})
        return sent

    def _thinking(self, part: ReasoningDelta) -> bytes:
        if part.redacted:
            return self._whole(ReasoningPart(part.text, part.signature, True, part.metadata))
        sent = self._enter((ReasoningDelta, part.index), {'type': 'thinking', 'thinking': '', 'signature': ''})
        if part.text:
            sent += self._delta({'type': 'thinking_delta', 'thinking': part.text})
        if part.signature:
            sent += self._delta({'type': 'signature_delta', 'signature': part.signature})
        return sent

    def _enter(self, key: tuple[type, int], block: JSON) -> bytes:
        if key == self._key:
            return b''
        sent = self._leave() + self._start(block)
        self._key = key
        return sent

    def _leave(self) -> bytes:
        if self._key is None:
            return b''
        self._key = None
        return self._stop(self._next - 1)

    def _start(self, block: JSON) -> bytes:
        self._next += 1
        return _event('content_block_start', {'index': self._next - 1, 'content_block': block})

    def _delta(self, delta: JSON, at: int | None = None) -> bytes:
        return _event('content_block_delta', {'index': self._next - 1 if at is None else at, 'delta': delta})

    def _stop(self, at: int) -> bytes:
        return _event('content_block_stop', {'index': at})

    # ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tool_input(self, part: ToolInputDelta) -> bytes:
        sent = b''
        tool = self._tools.get(part.index)
        if tool is None:
            if part.name is None or part.ref is None:
                return b''  # the whole request follows
            sent = self._leave() + self._start(self._tool_use(ToolRequest(part.name, {}, part.ref), None))
            tool = self._tools[part.index] = _Tool(self._next - 1)
        tool.pieces.append(part.delta)
        return sent + self._delta({'type': 'input_json_delta', 'partial_json': part.delta}, tool.at)

    def _tool_request(self, part: ToolRequested) -> bytes:
        tool = self._tools.pop(part.index, None)
        request = part.tool_request
        if tool is not None:
            if not _same(''.join(tool.pieces), request.input):
                raise LamellaError(
                    'INTERNAL',
                    f'the input of tool {request.name!r} is not what its ToolInputDelta pieces said, which are sent already:'
                    ' a layer that changes tool requests in a stream drops or changes the pieces too',
                )
            return self._stop(tool.at)
        block = self._tool_use(request, part.metadata)
        sent = self._leave() + self._start({**block, 'input': {}})
        text = msgspec.json.encode(block['input']).decode()
        return sent + self._delta({'type': 'input_json_delta', 'partial_json': text}) + self._stop(self._next - 1)

    def _tool_use(self, request: ToolRequest, metadata: JSON | None) -> JSON:
        return self._blocks.block(ToolRequestPart(request, metadata), 'tool_request') or {}

    # ── whole blocks ────────────────────────────────────────────────────────────────────────────────────────────────

    def _raw(self, part: Raw) -> bytes:
        return self._whole(DataPart(part.data, part.metadata)) if part.keep else b''

    def _file(self, part: File) -> bytes:
        return self._whole(part.media)

    def _whole(self, part: Part) -> bytes:
        block = self._blocks.block(part, f'content[{self._next}]')
        return b'' if block is None else self._leave() + self._start(block) + self._stop(self._next - 1)

    def _finish(self, part: Finished) -> bytes:
        sent = self._leave() + b''.join([self._stop(tool.at) for tool in self._tools.values()])
        self._ended = True
        return sent + _event('message_delta', ending(part)) + _event('message_stop', {})


def _same(text: str, value: Any) -> bool:
    try:
        sent: object = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        sent = text
    return sent == (value or {})


def _event(name: str, fields: JSON) -> bytes:
    return encode_event(msgspec.json.encode({'type': name, **fields}), name)


_PARTS: dict[type, Callable[[AnthropicStreamEncoder, Any], bytes]] = {
    ResponseStarted: AnthropicStreamEncoder._begin,
    Restarted: AnthropicStreamEncoder._restart,
    TextDelta: AnthropicStreamEncoder._text,
    ReasoningDelta: AnthropicStreamEncoder._thinking,
    ToolInputDelta: AnthropicStreamEncoder._tool_input,
    ToolRequested: AnthropicStreamEncoder._tool_request,
    Raw: AnthropicStreamEncoder._raw,
    File: AnthropicStreamEncoder._file,
    Finished: AnthropicStreamEncoder._finish,
}
