"""What an answer of Gemini says beside its content: why it ended, what it cost, where it draws from."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, Finished, FinishReason, Source, Usage
from lamella.wire._gemini_json import MARK, Malformed, at, fields, number_of, text_of, without
from lamella.wire._gemini_logprobs import add_logprobs, tokens_of

# ai.google.dev/api/generate-content#FinishReason; MODEL_ARMOR is Vertex AI's. CONTINUATION brings a `continuationToken`, which a
# further request may carry (ai.google.dev/gemini-api/docs/generate-content/long-decode).
REASONS: dict[str, FinishReason] = {
    'FINISH_REASON_UNSPECIFIED': 'unknown',
    'STOP': 'stop',
    'MAX_TOKENS': 'length',
    'CONTINUATION': 'length',
    'SAFETY': 'blocked',
    'RECITATION': 'blocked',
    'LANGUAGE': 'blocked',
    'BLOCKLIST': 'blocked',
    'PROHIBITED_CONTENT': 'blocked',
    'SPII': 'blocked',
    'ESCALATION': 'blocked',
    'PUP_LIMITED_DISABLED': 'blocked',
    'MODEL_ARMOR': 'blocked',
    'IMAGE_SAFETY': 'blocked',
    'IMAGE_PROHIBITED_CONTENT': 'blocked',
    'IMAGE_RECITATION': 'blocked',
}
"""Any other reason (OTHER, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, NO_IMAGE, MISSING_THOUGHT_SIGNATURE …) is `other`."""

COUNTS = (
    'promptTokenCount',
    'candidatesTokenCount',
    'totalTokenCount',
    'cachedContentTokenCount',
    'thoughtsTokenCount',
)
_NAMED = ('content', 'index', 'finishReason', 'finishMessage', 'logprobsResult')
_TOP = ('candidates', 'promptFeedback', 'usageMetadata', 'modelVersion', 'responseId')
_SPOKEN = ('STOP', 'MAX_TOKENS', 'FINISH_REASON_UNSPECIFIED')
_CHUNK_KINDS = ('web', 'retrievedContext', 'maps', 'image')


class Facts:
    """Collected chunk by chunk. Counts and most fields are told anew each time, so the last word counts."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.id: str | None = None
        self.candidate: JSON = {}  # the first candidate of the current chunk
        self.has_calls = False
        self.has_answer = False
        self._reason: str | None = None
        self._message: str | None = None
        self._blocked: str | None = None
        self._usage: JSON = {}
        self._extras: JSON = {}
        self._rest: JSON = {}
        self._others = 0
        self._known_sources: list[Source] = []
        self._sources: list[Source] = []

    @property
    def ended(self) -> bool:
        return self._reason is not None or self._blocked is not None

    def take(self, chunk: JSON) -> None:
        self.model = text_of(chunk, 'modelVersion', self.model or '') or None
        self.id = text_of(chunk, 'responseId', self.id or '') or None
        self.take_usage(chunk.get('usageMetadata', {}))
        self._rest |= without(chunk, *_TOP)
        if 'promptFeedback' in chunk:
            self._take_feedback(chunk['promptFeedback'])
        self.candidate = self._first(chunk.get('candidates'))
        if self.candidate:
            at('candidates[0]', self._take_candidate, self.candidate)

    def take_usage(self, value: Any) -> None:
        """The counts as they stand on the wire; they are read at the end."""
        if not isinstance(value, dict):
            raise Malformed('is no object', 'usageMetadata')
        self._usage.update(value)

    def _take_feedback(self, value: Any) -> None:
        feedback = at('promptFeedback', fields, value)
        self._extras['promptFeedback'] = value
        self.has_answer = True
        reason = at('promptFeedback', lambda f: text_of(f, 'blockReason', ''), feedback)
        if reason:
            message = feedback.get('blockReasonMessage')
            self._blocked = message if isinstance(message, str) else f'the prompt was blocked: {reason}'

    def _first(self, value: Any) -> JSON:
        """Lamella's answers have one candidate; of several, the first is kept."""
        if value is None:
            return {}
        if not isinstance(value, list):
            raise Malformed('is no list', 'candidates')
        candidates = [at(f'candidates[{i}]', fields, item) for i, item in enumerate(value)]
        self._others = max(self._others, *[_index(candidate) for candidate in candidates], 0)
        self.has_answer = self.has_answer or bool(candidates)
        return next((candidate for candidate in candidates if _index(candidate) == 0), {})

    def _take_candidate(self, candidate: JSON) -> None:
        self._reason = text_of(candidate, 'finishReason', self._reason or '') or None
        self._message = text_of(candidate, 'finishMessage', self._message or '') or None
        for name, value in without(candidate, *_NAMED).items():
            self._extras[name] = _joined(self._extras.get(name), value) if name == 'citationMetadata' else value
        if 'logprobsResult' in candidate:
            result = self._extras.setdefault('logprobsResult', {})
            at('logprobsResult', lambda value: add_logprobs(result, value), candidate['logprobsResult'])
        self._sources = [*_citations(candidate), *_groundings(candidate)]

    def new_sources(self) -> list[Source]:
        """The sources of the current chunk that no chunk before it named."""
        found, self._sources = self._sources, []
        new = [
            source for i, source in enumerate(found) if source not in self._known_sources and source not in found[:i]
        ]
        self._known_sources += new
        return new

    def finished(self) -> Finished:
        self._usage = fields(self._usage)
        return Finished(
            finish_reason=self._finish_reason(),
            usage=self._used(),
            model=self.model,
            id=self.id,
            finish_message=self._finish_message(),
            metadata=self._metadata() or None,
            warnings=(f'{self._others} more candidates were left out: an answer has one',) if self._others else (),
        )

    def _finish_reason(self) -> FinishReason:
        if self._blocked is not None:
            return 'blocked'
        if self._reason is None:
            return 'unknown'
        reason = REASONS.get(self._reason, 'other')
        return 'tool_calls' if reason == 'stop' and self.has_calls else reason

    def _finish_message(self) -> str | None:
        if self._message is not None or self._blocked is not None:
            return self._message or self._blocked
        return None if self._reason in _SPOKEN else self._reason

    def _metadata(self) -> JSON:
        own = dict(self._extras)
        if self._reason is not None and self._reason not in _SPOKEN:
            own['finishReason'] = self._reason
        if more := without(self._usage, *COUNTS):
            own['usageMetadata'] = more
        if self._rest:
            own['response'] = self._rest
        tokens = tokens_of(own.get('logprobsResult', {}))
        return {**({MARK: own} if own else {}), **({'logprobs': tokens} if tokens else {})}

    def _used(self) -> Usage | None:
        """Thoughts are counted beside the candidates, and what built-in tools read beside the prompt
        (ai.google.dev/api/generate-content#UsageMetadata)."""
        prompt, candidates, total, cached, thoughts = (_count(self._usage, name) for name in COUNTS)
        read = _sum(prompt, _count(self._usage, 'toolUsePromptTokenCount'))
        usage = Usage(read, _sum(candidates, thoughts), total, cached, thoughts)
        return None if usage == Usage() else usage


def _index(candidate: JSON) -> int:
    return at('candidates', lambda c: number_of(c, 'index', int), candidate) or 0


def _count(usage: JSON, name: str) -> int | None:
    count: int | None = at('usageMetadata', lambda u: number_of(u, name, int), usage)
    return count


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a + (b or 0)


def _joined(before: Any, now: Any) -> Any:
    """Citations of all chunks: each chunk names those of its own text."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return now
    return {name: _union(before.get(name), value) for name, value in {**before, **now}.items()}


def _union(before: Any, now: Any) -> Any:
    if not isinstance(before, list) or not isinstance(now, list):
        return now
    return [*before, *[item for item in now if item not in before]]


def _citations(candidate: JSON) -> list[Source]:
    """`citationSources` is the Gemini API's name, `citations` Vertex AI's."""
    metadata = candidate.get('citationMetadata')
    found = (metadata.get('citationSources') or metadata.get('citations')) if isinstance(metadata, dict) else None
    return (
        [_source(item, item, 'citation') for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    )


def _groundings(candidate: JSON) -> list[Source]:
    metadata = candidate.get('groundingMetadata')
    chunks = metadata.get('groundingChunks') if isinstance(metadata, dict) else None
    found = [chunk for chunk in chunks if isinstance(chunk, dict)] if isinstance(chunks, list) else []
    return [_source(_inner(chunk), chunk, 'groundingChunk') for chunk in found]


def _inner(chunk: JSON) -> JSON:
    return next((chunk[kind] for kind in _CHUNK_KINDS if isinstance(chunk.get(kind), dict)), {})


def _source(value: JSON, whole: JSON, kind: str) -> Source:
    url = _text(value, 'uri') or _text(value, 'sourceUri')
    return Source(url, _text(value, 'title'), _text(value, 'text'), metadata={MARK: {kind: whole}})


def _text(value: JSON, name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found else None
