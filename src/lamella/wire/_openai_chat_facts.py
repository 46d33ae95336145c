"""Facts beside the text of an answer of Chat Completions: usage, finish reasons, citations, log probabilities."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from lamella.types import JSON, FinishReason, ModelResponse, Source, Usage
from lamella.wire._openai_json import count, dict_or_empty, extras_of, list_or_empty, text_or_none, without

FINISH: dict[str, FinishReason] = {
    'stop': 'stop',
    'length': 'length',
    'tool_calls': 'tool_calls',
    'function_call': 'tool_calls',
    'content_filter': 'blocked',
    # words of compatible servers
    'eos': 'stop',
    'eos_token': 'stop',
    'end_turn': 'stop',
    'stop_sequence': 'stop',
    'max_tokens': 'length',
    'model_length': 'length',
    'tool_use': 'tool_calls',
    'safety': 'blocked',
}
_CANONICAL = ('stop', 'length', 'tool_calls', 'content_filter')
_WIRE = {'stop': 'stop', 'length': 'length', 'tool_calls': 'tool_calls', 'blocked': 'content_filter'}

_ROOT = frozenset(('id', 'object', 'model', 'choices', 'usage', 'obfuscation', 'error'))
_CHOICE = frozenset(('index', 'message', 'delta', 'finish_reason', 'logprobs'))
_MESSAGE = frozenset(
    (
        'role', 'content', 'refusal', 'tool_calls', 'function_call', 'annotations', 'audio', 'images',
        'reasoning_content', 'reasoning', 'reasoning_details',
    )
)  # fmt: skip
_USAGE = frozenset(
    ('prompt_tokens', 'completion_tokens', 'total_tokens', 'prompt_tokens_details', 'completion_tokens_details')
)
_PROMPT = frozenset(('cached_tokens', 'cache_write_tokens'))
_COMPLETION = frozenset(('reasoning_tokens',))


class Facts:
    """Collects what an answer says beside its content, of a whole answer or chunk by chunk."""

    __slots__ = ('choices', 'finish', 'id', 'logprobs', 'mark', 'model', 'refusal', 'rest', 'usage')

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.id: str | None = None
        self.model: str | None = None
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.refusal: list[str] = []
        self.logprobs: list[Any] = []
        self.choices = 1
        self.rest: dict[str, JSON] = {'': {}, 'choice': {}, 'message': {}, 'usage': {}}

    def read_root(self, root: JSON) -> None:
        for key, value in root.items():
            if key not in _ROOT and value is not None:
                self.rest[''][key] = value
        self.id = self.id or text_or_none(root.get('id'))
        self.model = self.model or text_or_none(root.get('model'))
        if usage := root.get('usage'):
            self._read_usage(dict_or_empty(usage))

    def read_choice(self, choice: JSON) -> None:
        for key, value in choice.items():
            if key not in _CHOICE and value is not None:
                self.rest['choice'][key] = value
        self.finish = text_or_none(choice.get('finish_reason')) or self.finish
        if logprobs := choice.get('logprobs'):
            tokens = dict_or_empty(logprobs)
            self.logprobs += list_or_empty(tokens.get('content')) + list_or_empty(tokens.get('refusal'))

    def read_message(self, message: JSON) -> None:
        """Also of a delta: pieces of unknown text are joined, of unknown lists put together."""
        for key, value in message.items():
            if key not in _MESSAGE and value is not None:
                self.rest['message'][key] = _joined(self.rest['message'].get(key), value)
        if refusal := text_or_none(message.get('refusal')):
            self.refusal.append(refusal)

    def _read_usage(self, usage: JSON) -> None:
        prompt = dict_or_empty(usage.get('prompt_tokens_details'))
        completion = dict_or_empty(usage.get('completion_tokens_details'))
        cached = (prompt.get('cached_tokens'), usage.get('prompt_cache_hit_tokens'), usage.get('cached_tokens'))
        self.usage = Usage(
            input_tokens=count(usage.get('prompt_tokens')),
            output_tokens=count(usage.get('completion_tokens')),
            total_tokens=count(usage.get('total_tokens')),
            cached_tokens=next((n for value in cached if (n := count(value)) is not None), None),
            reasoning_tokens=count(completion.get('reasoning_tokens')),
            cache_write_tokens=count(prompt.get('cache_write_tokens')),
        )
        rest = without(usage, _USAGE)
        for name, details, known in (('prompt', prompt, _PROMPT), ('completion', completion, _COMPLETION)):
            if more := {key: value for key, value in details.items() if key not in known and value}:
                rest[f'{name}_tokens_details'] = more
        self.rest['usage'] = rest

    def finish_reason(self, has_calls: bool) -> FinishReason:
        """A refusal is `blocked`. Servers say `stop` where a call was forced; with calls that is `tool_calls`."""
        if self.refusal:
            return 'blocked'
        if self.finish is None:
            return 'tool_calls' if has_calls else 'unknown'
        reason = FINISH.get(self.finish.lower(), 'other')
        return 'tool_calls' if reason == 'stop' and has_calls else reason

    @property
    def finish_message(self) -> str | None:
        return ''.join(self.refusal) or None

    def metadata(self) -> JSON:
        """`logprobs` as a list of tokens, and under the provider's name the fields that Lamella has no name for."""
        rest = self.rest
        own: JSON = {**rest[''], **{name: fields for name, fields in rest.items() if name and fields}}
        if self.finish is not None and self.finish not in _CANONICAL:
            own['finish_reason'] = self.finish
        found: JSON = {self.mark: own} if own else {}
        if self.logprobs:
            found['logprobs'] = self.logprobs
        return found

    def warnings(self) -> tuple[str, ...]:
        if self.choices == 1:
            return ()
        return ('the answer has several choices (n > 1): only the first is used',)


def _joined(before: Any, value: Any) -> Any:
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return before + value
    return value


def sources_of(message: JSON, mark: str) -> list[Source]:
    """Web search citations (platform.openai.com/docs/guides/tools-web-search, "Output and citations")."""
    found = []
    for annotation in list_or_empty(message.get('annotations')):
        cited = dict_or_empty(dict_or_empty(annotation).get('url_citation'))
        url, title = text_or_none(cited.get('url')), text_or_none(cited.get('title'))
        if url or title:
            found.append(Source(url, title, text_or_none(cited.get('content')), metadata={mark: annotation}))
    return found


def annotation_of(source: Source, mark: str) -> JSON:
    """The citation as it came, or a new one that covers no text in particular."""
    if given := extras_of(source.metadata, mark):
        return given
    cited = {'url': source.url or '', 'title': source.title or '', 'start_index': 0, 'end_index': 0}
    return {'type': 'url_citation', 'url_citation': cited}


def usage_to_wire(usage: Usage, rest: JSON) -> JSON:
    """Counts that are not known become zero: the protocol wants numbers."""
    total = usage.total_tokens
    wire: JSON = {
        'prompt_tokens': usage.input_tokens or 0,
        'completion_tokens': usage.output_tokens or 0,
        'total_tokens': (usage.input_tokens or 0) + (usage.output_tokens or 0) if total is None else total,
    }
    prompt = {'cached_tokens': usage.cached_tokens, 'cache_write_tokens': usage.cache_write_tokens}
    completion = {'reasoning_tokens': usage.reasoning_tokens}
    for name, details in (('prompt_tokens_details', prompt), ('completion_tokens_details', completion)):
        if known := {key: value for key, value in details.items() if value is not None}:
            wire[name] = known
    return {**wire, **{key: {**wire.get(key, {}), **value} if key in _USAGE else value for key, value in rest.items()}}


def finish_to_wire(reason: str, refused: bool) -> str:
    return 'stop' if refused else _WIRE.get(reason, 'stop')


def split_metadata(metadata: JSON | None, mark: str) -> tuple[JSON, JSON, JSON, JSON]:
    """The fields kept by `Facts.metadata`, back in their places: root, choice, message, usage."""
    own = dict(extras_of(metadata, mark))
    own.pop('finish_reason', None)
    choice, message, usage = (dict_or_empty(own.pop(name, None)) for name in ('choice', 'message', 'usage'))
    return own, choice, message, usage


def response_id(response: ModelResponse, message: bytes) -> str:
    """The answer's id, or one made of its content."""
    return response.id or f'chatcmpl-{hash_of(message)}'


def hash_of(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
