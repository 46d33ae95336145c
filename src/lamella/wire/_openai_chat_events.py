"""Parts to the chunks of a streamed answer of Chat Completions: what a server sends."""

from __future__ import annotations

from lamella.types import (
    JSON,
    DataPart,
    File,
    Finished,
    LamellaError,
    Message,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
    ToolRequestPart,
    Usage,
    add_usage,
)
from lamella.wire._openai_chat_answer import call_to_wire, is_refusal, message_to_wire
from lamella.wire._openai_chat_errors import error_body
from lamella.wire._openai_chat_facts import annotation_of, finish_to_wire, hash_of, split_metadata, usage_to_wire
from lamella.wire._openai_json import extras_of, write
from lamella.wire.sse import encode_event


class ChatStreamEncoder:
    """One streamed answer, chunk by chunk. `finish` sends the finish reason, the usage if it was asked for, and `[DONE]`.

    A `Restarted` after content raises ABORTED: the protocol cannot take back what was sent.
    """

    def __init__(self, model: str, mark: str, reasoning_field: str, with_usage: bool) -> None:
        self._model = model
        self._mark = mark
        self._reasoning_field = reasoning_field
        self._with_usage = with_usage
        self._head = b''
        self._said: JSON = {}
        self._calls: dict[int, _Sent] = {}
        self._count = 0
        self._sent_content = self._refused = False
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    def feed(self, part: StreamPart) -> bytes:
        kind = type(part)
        if kind is TextDelta:
            return self._delta({'content': part.text})  # type: ignore[union-attr]
        if isinstance(part, ReasoningDelta):
            return self._reasoning(part)
        if isinstance(part, ToolInputDelta):
            return self._tool_input(part)
        if isinstance(part, ToolRequested):
            return self._tool_request(part)
        if isinstance(part, Source):
            return self._delta({'annotations': [annotation_of(part, self._mark)]})
        if isinstance(part, File):
            return self._file(part)
        if isinstance(part, Raw):
            return self._raw(part)
        return self._control(part)

    def _control(self, part: StreamPart) -> bytes:
        if isinstance(part, ResponseStarted):
            return self._start(part.id, part.metadata)
        if isinstance(part, Restarted) and self._sent_content:
            raise LamellaError(
                'ABORTED', 'the answer started over, and Chat Completions cannot take back what was sent'
            )
        if isinstance(part, Finished):
            self._finished = part
            self._usage = add_usage(self._usage, part.usage)
        return b''

    def _start(self, id: str | None, metadata: JSON | None) -> bytes:
        if self._head:
            return b''
        root = split_metadata(metadata, self._mark)[0]
        head = {
            'id': id or f'chatcmpl-{hash_of(self._model.encode())}',
            'object': 'chat.completion.chunk',
            'created': 0,
        }
        self._said = head = {**head, **root, 'model': self._model}
        self._head = b'data: ' + write(head, lambda: head)[:-1] + b',"choices":'
        return self._choice({'role': 'assistant', 'content': ''})

    def _delta(self, delta: JSON) -> bytes:
        start = b'' if self._head else self._start(None, None)
        self._sent_content = True
        return start + self._choice(delta)

    def _choice(self, delta: JSON) -> bytes:
        text = write(delta, lambda: {'the delta': delta})
        return b''.join((self._head, b'[{"index":0,"delta":', text, b',"logprobs":null,"finish_reason":null}]}\n\n'))

    def _reasoning(self, part: ReasoningDelta) -> bytes:
        delta: JSON = {self._reasoning_field: part.text} if part.text else {}
        if details := extras_of(part.metadata, self._mark).get('reasoning_details'):
            delta['reasoning_details'] = details
        return self._delta(delta) if delta else b''

    def _tool_input(self, part: ToolInputDelta) -> bytes:
        """Sent as it comes once the name is known; without a name the whole request follows anyway."""
        sent = self._calls.get(part.index)
        function: JSON = {'arguments': part.delta}
        if sent is not None:
            return self._delta({'tool_calls': [{'index': sent.index, 'function': function}]})
        if part.name is None:
            return b''
        sent = self._new(part.index, part.ref)
        call: JSON = {'index': sent.index, 'type': 'function', 'function': {'name': part.name, **function}}
        if part.ref is not None:
            call['id'] = part.ref
        return self._delta({'tool_calls': [call]})

    def _new(self, index: int, ref: str | None) -> _Sent:
        self._calls[index] = sent = _Sent(self._count, ref)
        self._count += 1
        return sent

    def _tool_request(self, part: ToolRequested) -> bytes:
        sent = self._calls.pop(part.index, None)
        request = part.tool_request
        if sent is not None and (sent.ref is None or request.ref is None or sent.ref == request.ref):
            if sent.ref is not None:
                return b''
            return self._delta({'tool_calls': [{'index': sent.index, 'id': request.ref or f'call_{sent.index}'}]})
        index, self._count = self._count, self._count + 1
        call = call_to_wire(ToolRequestPart(request, part.metadata), f'call_{index}', self._mark)
        return self._delta({'tool_calls': [{'index': index, **call}]})

    def _file(self, part: File) -> bytes:
        wire = message_to_wire(ModelResponse(message=Message('assistant', (part.media,))), self._mark, '')
        delta: JSON = {key: value for key, value in wire.items() if key in ('images', 'audio')}
        return self._delta(delta) if delta else b''

    def _raw(self, part: Raw) -> bytes:
        block = DataPart(part.data)
        if not part.keep or not is_refusal(block):
            return b''
        self._refused = True
        return self._delta({'refusal': block.data['refusal']})

    def finish(self) -> bytes:
        """The closing chunks; without a `Finished` part there is only `[DONE]`."""
        finished = self._finished
        if finished is None:
            return b'data: [DONE]\n\n'
        start = b'' if self._head else self._start(finished.id, finished.metadata)
        root, choice, message, usage_rest = split_metadata(finished.metadata, self._mark)
        logprobs = (finished.metadata or {}).get('logprobs')
        last = {
            'index': 0,
            'delta': message,
            'logprobs': {'content': logprobs, 'refusal': None} if logprobs else None,
            'finish_reason': finish_to_wire(finished.finish_reason, self._refused),
            **choice,
        }
        rest = {key: value for key, value in root.items() if key != 'choices' and key not in self._said}
        chunks = [start, self._chunk([last], rest)]
        if self._with_usage and self._usage is not None:
            chunks.append(self._chunk([], {'usage': usage_to_wire(self._usage, usage_rest)}))
        return b''.join((*chunks, b'data: [DONE]\n\n'))

    def _chunk(self, choices: list[JSON], root: JSON) -> bytes:
        head = self._head + write(choices, lambda: {'choices': choices})
        return head + (b',' + write(root, lambda: root)[1:] if root else b'}') + b'\n\n'

    def error(self, error: LamellaError) -> bytes:
        return encode_event(error_body(error))


class _Sent:
    """A tool call whose input is being sent."""

    __slots__ = ('index', 'ref')

    def __init__(self, index: int, ref: str | None) -> None:
        self.index = index
        self.ref = ref
