"""What an answer says beside its items: status, usage, citations, and the fields that Lamella has no name for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lamella.types import JSON, FinishReason, LamellaError, ModelResponse, Part, Source, ToolRequestPart, Usage
from lamella.wire._openai_chat_facts import hash_of
from lamella.wire._openai_json import count, dict_or_empty, list_or_empty, text_or_none, without
from lamella.wire._responses.errors import error_of
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import cut_warning, may_be_cut
from lamella.wire._responses.output_write import annotations_of, is_refusal, refusal_of

_ROOT = frozenset(('id', 'object', 'model', 'output', 'usage', 'status', 'incomplete_details', 'error', 'output_text'))
_USAGE = frozenset(('input_tokens', 'output_tokens', 'total_tokens', 'input_tokens_details', 'output_tokens_details'))
_INPUT = frozenset(('cached_tokens', 'cache_write_tokens'))
_OUTPUT = frozenset(('reasoning_tokens',))
_REASONS: dict[str, FinishReason] = {'max_output_tokens': 'length', 'content_filter': 'blocked'}
_WAITING = ('queued', 'in_progress')


class Facts:
    """The root of an answer, read. Raises LamellaError for one that failed."""

    __slots__ = ('_content', '_logprobs', '_marks', '_root')

    def __init__(self, root: JSON, content: Sequence[Part], logprobs: list[Any], marks: Marks) -> None:
        self._root = root
        self._content = content
        self._logprobs = logprobs
        self._marks = marks

    @property
    def _status(self) -> str:
        return text_or_none(self._root.get('status')) or 'completed'

    @property
    def _reason(self) -> str | None:
        return text_or_none(dict_or_empty(self._root.get('incomplete_details')).get('reason'))

    @property
    def was_cut(self) -> bool:
        """Whether the token limit ended this answer."""
        return self._status == 'incomplete' and _REASONS.get(self._reason or '') == 'length'

    def finish_reason(self) -> FinishReason:
        if any(map(is_refusal, self._content)):
            return 'blocked'
        if self._status == 'incomplete':
            return _REASONS.get(self._reason or '', 'other')
        if self._status in _WAITING:
            return 'unknown'
        if self._status != 'completed':
            return 'other'
        return 'tool_calls' if any(type(part) is ToolRequestPart for part in self._content) else 'stop'

    def finish_message(self) -> str | None:
        return ''.join([words for part in self._content if (words := refusal_of(part))]) or None

    def usage(self) -> Usage | None:
        usage = dict_or_empty(self._root.get('usage'))
        if not usage:
            return None
        details = dict_or_empty(usage.get('input_tokens_details'))
        return Usage(
            input_tokens=count(usage.get('input_tokens')),
            output_tokens=count(usage.get('output_tokens')),
            total_tokens=count(usage.get('total_tokens')),
            cached_tokens=count(details.get('cached_tokens')),
            reasoning_tokens=count(dict_or_empty(usage.get('output_tokens_details')).get('reasoning_tokens')),
            cache_write_tokens=count(details.get('cache_write_tokens')),
        )

    def metadata(self) -> JSON:
        """`logprobs` as a list of tokens, and the fields that Lamella has no name for."""
        own = without(self._root, _ROOT)
        if self._status not in ('completed', 'incomplete'):
            own['status'] = self._status
        details = self._root.get('incomplete_details')
        if details and (self._reason not in _REASONS or len(details) > 1):
            own['incomplete_details'] = details
        if usage := _more_usage(dict_or_empty(self._root.get('usage'))):
            own['usage'] = usage
        found: JSON = {self._marks.own: own} if own else {}
        if self._logprobs:
            found['logprobs'] = self._logprobs
        return found

    def warnings(self) -> tuple[str, ...]:
        if self._status not in _WAITING:
            return ()
        return (f'the answer is not there yet (status {self._status!r}): ask for it later by its id',)


def _more_usage(usage: JSON) -> JSON:
    rest = without(usage, _USAGE)
    for name, known in (('input_tokens_details', _INPUT), ('output_tokens_details', _OUTPUT)):
        if more := without(dict_or_empty(usage.get(name)), known):
            rest[name] = more
    return rest


def check_failed(root: JSON, partial: ModelResponse | None) -> None:
    """Raises LamellaError for an answer that says it failed or was cancelled."""
    error, status = root.get('error'), root.get('status')
    if isinstance(error, dict) or status == 'failed':
        raise error_of({'error': dict_or_empty(error)}, partial)
    if status == 'cancelled':
        raise LamellaError('CANCELLED', 'the provider says that this answer was cancelled', partial=partial)


def whole_content(parts: list[Part], was_cut: bool, marks: Marks) -> tuple[list[Part], tuple[str, ...]]:
    """The parts without the request that the token limit cut off, which can only be the last."""
    last = parts[-1] if parts else None
    if was_cut and type(last) is ToolRequestPart and may_be_cut(last, marks):
        return parts[:-1], (cut_warning(last),)
    return parts, ()


def logprobs_of(item: JSON) -> list[Any]:
    """The log probabilities of a message's tokens."""
    if item.get('type') != 'message':
        return []
    blocks = [dict_or_empty(block) for block in list_or_empty(item.get('content'))]
    return [token for block in blocks for token in list_or_empty(block.get('logprobs'))]


# ── citations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def source_of(annotation: Any, index: int, marks: Marks) -> Source | None:
    """`url_citation`, `file_citation`, `container_file_citation` and `file_path` (guides/tools-web-search, -file-search)."""
    cited = dict_or_empty(annotation)
    url = text_or_none(cited.get('url'))
    title = text_or_none(cited.get('title')) or text_or_none(cited.get('filename'))
    title = title or (None if url else text_or_none(cited.get('file_id')))
    if url is None and title is None:
        return None
    return Source(url, title, None, index, {marks.own: cited})


def sources_of(part: Part, index: int, marks: Marks) -> list[Source]:
    found = [source_of(annotation, index, marks) for annotation in annotations_of(part, marks)]
    return [source for source in found if source is not None]


def annotation_of(source: Source, marks: Marks) -> JSON:
    """The citation as it came, from Chat Completions too, or a new one that covers no text in particular."""
    if given := marks.own_of(source.metadata):
        return given
    known = {'url': source.url or '', 'title': source.title or '', 'start_index': 0, 'end_index': 0}
    cited = dict_or_empty(marks.shared_of(source.metadata).get('url_citation'))
    return {'type': 'url_citation', **known, **cited}


# ── to the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────


def usage_to_wire(usage: Usage, rest: JSON) -> JSON:
    """Counts that are not known become zero: the protocol wants numbers."""
    total = usage.total_tokens
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    cached = {'cached_tokens': usage.cached_tokens or 0, 'cache_write_tokens': usage.cache_write_tokens or 0}
    reasoning = {'reasoning_tokens': usage.reasoning_tokens or 0}
    return {
        **{key: value for key, value in rest.items() if key not in _USAGE},
        'input_tokens': given,
        'input_tokens_details': {**cached, **dict_or_empty(rest.get('input_tokens_details'))},
        'output_tokens': made,
        'output_tokens_details': {**reasoning, **dict_or_empty(rest.get('output_tokens_details'))},
        'total_tokens': given + made if total is None else total,
    }


def status_to_wire(reason: str, refused: bool, own: JSON) -> JSON:
    """`status` and `incomplete_details`. A refusal is an answer, and a complete one."""
    wire: JSON = {'status': 'completed', 'incomplete_details': None}
    if reason == 'length':
        wire = {'status': 'incomplete', 'incomplete_details': {'reason': 'max_output_tokens'}}
    elif reason == 'blocked' and not refused:
        wire = {'status': 'incomplete', 'incomplete_details': {'reason': 'content_filter'}}
    elif own.get('incomplete_details'):
        wire['status'] = 'incomplete'
    return {**wire, **{key: own[key] for key in ('status', 'incomplete_details') if key in own}}


def response_id(seed: bytes) -> str:
    """An id for an answer that has none."""
    return f'resp_{hash_of(seed)}'


def refused(items: Iterable[JSON]) -> bool:
    blocks = [block for item in items for block in list_or_empty(item.get('content'))]
    return any(dict_or_empty(block).get('type') == 'refusal' for block in blocks)
