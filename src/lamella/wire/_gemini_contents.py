"""A conversation to Gemini's `contents` and `systemInstruction`, and back (ai.google.dev/api/caching#Content)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from lamella.types import JSON, Message, Part, Role, TextPart, ToolResponsePart
from lamella.wire._gemini_json import Malformed, Warn, at, each, extras_of, fields, marked, shown, without
from lamella.wire._gemini_models import UNKNOWN, generation
from lamella.wire._gemini_parts import decode_part, encode_part

# The value that Google documents for function calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures).
UNSIGNED = 'skip_thought_signature_validator'

_ROLES: dict[str, Role] = {
    '': 'user',
    'user': 'user',
    'function': 'user',
    'tool': 'user',
    'model': 'assistant',
    'assistant': 'assistant',
}


# To the wire


def encode_contents(messages: Sequence[Message], model: str, warn: Warn) -> tuple[list[JSON], list[JSON]]:
    """The parts of the system instruction, and the contents.

    Gemini wants the answers to all calls of one turn in one content, so tool messages in a row become one. Raises Malformed.
    """
    system: list[JSON] = []
    contents: list[JSON] = []
    pairs = _Pairs()
    before: Role = 'system'
    number = generation(model)
    for i, message in enumerate(messages):
        parts = _parts(message, f'messages[{i}]', warn)
        pairs.note(message, parts)
        if UNKNOWN < number < (3, 0):
            parts = _media_beside(parts)
        if message.role == 'system':
            system += parts
            _warn_of_late(before, warn)
        elif message.role == 'tool' and before == 'tool' and contents:
            contents[-1]['parts'] += parts
        elif parts:
            role = 'model' if message.role == 'assistant' else 'user'
            contents.append({'role': role, 'parts': parts, **extras_of(message.metadata)})
        before = message.role if parts else before
    if number >= (3, 0):
        _sign(contents, warn)
    return system, contents


def _parts(message: Message, step: str, warn: Warn) -> list[JSON]:
    """A model's empty text is left out: Gemini answers with it at times and refuses to read it."""
    parts = []
    for i, part in enumerate(message.content):
        if message.role == 'assistant' and type(part) is TextPart and not part.text and not part.metadata:
            continue
        encoded = at(f'{step}.content[{i}]', lambda p: encode_part(p, warn), part)
        if encoded is not None:
            parts.append(encoded)
    return parts


class _Pairs:
    """Which call an answer belongs to.

    Gemini pairs by name and order, and by id where it gave one itself; Vertex AI refuses ids that it does not know
    (vercel/ai#15664). Other protocols have ids alone, so names are looked up.
    """

    def __init__(self) -> None:
        self._names: dict[str | None, str] = {}
        self._ids: set[str | None] = set()

    def note(self, message: Message, parts: list[JSON]) -> None:
        for asked in message.tool_requests:
            ref = asked.tool_request.ref
            self._names[ref] = asked.tool_request.name
            if 'id' in extras_of(asked.metadata).get('functionCall', {}):
                self._ids.add(ref)
        for part in parts:
            if answer := part.get('functionResponse'):
                named = {**answer, 'name': answer.get('name') or self._names.get(answer.get('id'), '')}
                part['functionResponse'] = named if answer.get('id') in self._ids else without(named, 'id')


def _media_beside(parts: list[JSON]) -> list[JSON]:
    """Before Gemini 3 an answer holds no media: they follow it."""
    media: list[JSON] = []
    for part in parts:
        answer = part.get('functionResponse')
        if isinstance(answer, dict) and 'parts' in answer:
            media += answer['parts']
            part['functionResponse'] = without(answer, 'parts')
    return [*parts, *media]


def _warn_of_late(before: Role, warn: Warn) -> None:
    if before != 'system':
        warn('a system message after the first turn was moved into systemInstruction: Gemini has no other place for it')


def _sign(contents: list[JSON], warn: Warn) -> None:
    """Gemini 3 refuses a function call of the current turn without the signature that only it can give.

    The first call of a content carries it, so contents that have one anywhere are left as they are.
    """
    for content in contents:
        calls = [part for part in content['parts'] if 'functionCall' in part]
        if content['role'] != 'model' or not calls or any('thoughtSignature' in part for part in content['parts']):
            continue
        calls[0]['thoughtSignature'] = UNSIGNED
        warn(
            f'the call of {calls[0]["functionCall"].get("name")!r} has no thought signature (another model made it, or its '
            "metadata['gemini'] was lost): it was sent as not to be validated"
        )


# From the wire


def decode_system(value: Any) -> list[Message]:
    if value is None:
        return []
    content = fields(value)
    return [Message('system', tuple(each('parts', decode_part, content.get('parts'))))]


def decode_contents(value: Any) -> list[Message]:
    """Messages; the answers of functions become messages of role `tool`. Raises Malformed."""
    return [message for messages in each('contents', _messages, value) for message in messages]


def _messages(value: Any) -> list[Message]:
    content = fields(value)
    role = content.get('role', '')
    if role not in _ROLES:
        raise Malformed(f"is {shown(role)}: use 'user' or 'model'", 'role')
    parts: list[Part] = each('parts', decode_part, content.get('parts'))
    metadata = marked(without(content, 'role', 'parts')) or {}
    if _ROLES[role] == 'assistant':
        return [Message('assistant', tuple(parts), metadata)]
    runs = groupby(parts, key=lambda part: type(part) is ToolResponsePart)
    return [Message('tool' if answers else 'user', tuple(run), metadata) for answers, run in runs]
