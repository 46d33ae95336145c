"""An answer as Gemini says it, whole and as a stream of chunks, for servers that speak its protocol."""

from __future__ import annotations

from collections.abc import Sequence

from lamella.types import (
    JSON,
    DataPart,
    File,
    Finished,
    LamellaError,
    ModelResponse,
    Part,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolRequested,
    ToolRequestPart,
    Usage,
    finished_of,
)
from lamella.wire._gemini_facts import REASONS
from lamella.wire._gemini_json import at, extras_of, without, write
from lamella.wire._gemini_logprobs import result_of
from lamella.wire._gemini_parts import encode_answer_part
from lamella.wire._gemini_status import encode_status
from lamella.wire.sse import encode_event

_BY_REASON = {'stop': 'STOP', 'tool_calls': 'STOP', 'length': 'MAX_TOKENS', 'blocked': 'SAFETY', 'other': 'OTHER'}
_NOT_OF_THE_CANDIDATE = ('finishReason', 'usageMetadata', 'promptFeedback', 'response')


def encode_answer(response: ModelResponse, model: str) -> JSON:
    """The whole body. What another provider's parts say is left out."""
    parts = [_encoded(i, part) for i, part in enumerate(response.message.content)]
    content = {'role': 'model', 'parts': [part for part in parts if part is not None]}
    return _closing(finished_of(response), response.model or model, response.id, content, response.sources)


def _encoded(index: int, part: Part) -> JSON | None:
    encoded: JSON | None = at(f'message.content[{index}]', encode_answer_part, part)
    return encoded


class AnswerEncoder:
    """A `StreamEncoder`. Gemini has no marks of beginning or end: each event is an answer that goes on."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id: str | None = None
        self._sources: list[Source] = []
        self._said = False

    def feed(self, part: StreamPart) -> bytes:
        match part:
            case ResponseStarted():
                self._model, self._id = part.model or self._model, part.id
                return b''
            case Source():
                self._sources.append(part)
                return b''
            case Restarted():
                self._restart(part)
                return b''
            case Finished():
                last = {'role': 'model', 'parts': [{'text': ''}]}
                return self._event(_closing(part, part.model or self._model, part.id or self._id, last, self._sources))
        said = _part_of(part)
        return b'' if said is None else self._piece(said)

    def finish(self) -> bytes:
        return b''

    def error(self, error: LamellaError) -> bytes:
        return self._event(encode_status(error))

    def _piece(self, part: Part) -> bytes:
        encoded = encode_answer_part(part)
        if encoded is None:
            return b''
        self._said = True
        candidate = {'content': {'role': 'model', 'parts': [encoded]}, 'index': 0}
        return self._event({'candidates': [candidate], **_named(self._model, self._id)})

    def _restart(self, part: Restarted) -> None:
        if self._said:
            raise LamellaError(
                'ABORTED',
                f"the answer began anew ({part.reason or 'no reason given'}) after parts of it were sent, and Gemini's "
                "protocol cannot take them back: hold the answer back with commit='finish' on the layer that restarts",
            )
        self._sources.clear()

    def _event(self, body: JSON) -> bytes:
        return encode_event(write(body))


def _part_of(part: StreamPart) -> Part | None:
    """What a client is told of it: pieces of tool input and a run's own tools have no place in this protocol."""
    match part:
        case TextDelta():
            return TextPart(part.text, part.metadata)
        case ReasoningDelta():
            return ReasoningPart(part.text, part.signature, part.redacted, part.metadata)
        case ToolRequested():
            return ToolRequestPart(part.tool_request, part.metadata)
        case File():
            return part.media
        case Raw(keep=True):
            return DataPart(part.data, part.metadata)
    return None


def _closing(finished: Finished, model: str, id: str | None, content: JSON, sources: Sequence[Source]) -> JSON:
    """The chunk that ends an answer, or all of a whole one: its content and what else was noted."""
    own = extras_of(finished.metadata)
    body: JSON = {}
    if not _is_blocked_prompt(finished, own):
        body['candidates'] = [_candidate(finished, own, content, sources)]
    if 'promptFeedback' in own:
        body['promptFeedback'] = own['promptFeedback']
    if counts := _counts(finished.usage, own.get('usageMetadata', {})):
        body['usageMetadata'] = counts
    return {**body, **_named(model, id), **own.get('response', {})}


def _is_blocked_prompt(finished: Finished, own: JSON) -> bool:
    feedback = own.get('promptFeedback')
    return finished.finish_reason == 'blocked' and isinstance(feedback, dict) and 'finishReason' not in own


def _candidate(finished: Finished, own: JSON, content: JSON, sources: Sequence[Source]) -> JSON:
    reason = own.get('finishReason', '')
    if REASONS.get(reason, 'other') != finished.finish_reason or not reason:
        reason = _BY_REASON.get(finished.finish_reason, 'FINISH_REASON_UNSPECIFIED')
    candidate: JSON = {'content': content, 'finishReason': reason, 'index': 0}
    if finished.finish_message not in (None, reason):
        candidate['finishMessage'] = finished.finish_message
    if result := result_of((finished.metadata or {}).get('logprobs')):
        candidate['logprobsResult'] = result
    return {**candidate, **_sources(sources), **without(own, *_NOT_OF_THE_CANDIDATE)}


def _sources(sources: Sequence[Source]) -> JSON:
    """The places for sources; where the answer's own metadata has them already, that stands."""
    cited = [mark['citation'] for source in sources if 'citation' in (mark := extras_of(source.metadata))]
    found = [_chunk(source) for source in sources if 'citation' not in extras_of(source.metadata)]
    return {
        **({'citationMetadata': {'citationSources': cited}} if cited else {}),
        **({'groundingMetadata': {'groundingChunks': found}} if found else {}),
    }


def _chunk(source: Source) -> JSON:
    told = {'uri': source.url, 'title': source.title, 'text': source.text}
    told = {name: value for name, value in told.items() if value is not None}
    kind = 'retrievedContext' if source.text else 'web'
    chunk: JSON = extras_of(source.metadata).get('groundingChunk', {kind: told})
    return chunk


def _counts(usage: Usage | None, more: JSON) -> JSON:
    """Gemini counts thoughts beside the candidates, and what its tools read beside the prompt."""
    usage = usage or Usage()
    by_tools = more.get('toolUsePromptTokenCount')
    counts = {
        'promptTokenCount': _less(usage.input_tokens, by_tools if isinstance(by_tools, int) else None),
        'candidatesTokenCount': _less(usage.output_tokens, usage.reasoning_tokens),
        'totalTokenCount': usage.total_tokens,
        'cachedContentTokenCount': usage.cached_tokens,
        'thoughtsTokenCount': usage.reasoning_tokens,
    }
    return {**{name: count for name, count in counts.items() if count is not None}, **more}


def _less(all_: int | None, part: int | None) -> int | None:
    return None if all_ is None else all_ - (part or 0)


def _named(model: str, id: str | None) -> JSON:
    return {'modelVersion': model} if id is None else {'modelVersion': model, 'responseId': id}
