"""What must come back in a conversation with thinking, checked as each vendor checks it, in the vendor's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lamella.simulator.seals import opened, thought_stamp
from lamella.types import LamellaError, Message, Part, ReasoningPart, ToolRequestPart

# What Google documents for calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures).
NOT_VALIDATED = ('skip_thought_signature_validator', 'context_engineering_is_the_way_to_go')
# Before Gemini 3 a signature may be missing.
_UNSIGNED_MODELS = re.compile(r'(?:.*/)?gemini-[12]\b', re.IGNORECASE)


def check_messages(messages: Sequence[Message], seed: int, *, always: bool) -> None:
    """Anthropic: thinking blocks come back unchanged, and a turn with tool calls begins with one.

    The simulator asks this for the calls that it thought of itself; `always` (thinking `enabled`, not `adaptive`) asks it
    for any turn, whoever began it (platform.claude.com/docs/en/build-with-claude/adaptive-thinking, "Validation changes").
    """
    for place, message in _placed(messages):
        for at, part in enumerate(message.content):
            if message.role == 'assistant' and isinstance(part, ReasoningPart):
                _check_block(part, f'messages.{place}.content.{at}', seed)
    turn = [(place, message) for place, message in _current_turn(messages) if message.tool_requests]
    for at, (place, message) in enumerate(turn):
        own = any(thought_stamp(part.tool_request.ref) for part in message.tool_requests)
        if (own or (always and at == 0)) and not isinstance(message.content[0], ReasoningPart):
            raise _refused(_MUST_BEGIN.format(place=place, found=_kind(message.content[0])))


_MUST_BEGIN = (
    'messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is '
    'enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and '
    '`tool_result` blocks): send back the thinking blocks of the answer as they came, or disable `thinking`.'
)


def _check_block(part: ReasoningPart, where: str, seed: int) -> None:
    if part.redacted:
        raise _refused(f'{where}: Invalid `data` in `redacted_thinking` block')
    thought = opened(seed, part.signature or '')
    if thought is None or part.text not in (thought, ''):
        raise _refused(f'{where}: Invalid `signature` in `thinking` block')


def _kind(part: Part) -> str:
    return 'tool_use' if isinstance(part, ToolRequestPart) else 'text'


def check_gemini(messages: Sequence[Message], model: str, seed: int) -> None:
    """Gemini 3: in the current turn the first call of each step carries its signature, and no signature is altered."""
    for place, message in _current_turn(messages):
        for part in message.content:
            seal = _gemini_seal(part)
            if seal is not None and seal not in NOT_VALIDATED and opened(seed, seal) is None:
                raise _refused('Corrupted thought signature.')
        calls = message.tool_requests
        if calls and _gemini_seal(calls[0]) is None and not _UNSIGNED_MODELS.match(model):
            raise _refused(_UNSIGNED.format(name=calls[0].tool_request.name, position=place + 1))


_UNSIGNED = (
    'Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and '
    'missing thought_signature may lead to degraded model performance. Additional data, function call '
    '`default_api:{name}`, position {position}. Please refer to https://ai.google.dev/gemini-api/docs/thought-signatures '
    'for more details.'
)


def _gemini_seal(part: Part) -> str | None:
    seal = _own(part, 'gemini').get('thoughtSignature')
    return seal if isinstance(seal, str) else None


def check_responses(messages: Sequence[Message], seed: int, *, stored: bool) -> None:
    """OpenAI Responses: what has the id of an item comes with its reasoning item, and `encrypted_content` is whole.

    An item without an id is nobody's, and is taken. Without `store` a reasoning item is known by its content alone
    (platform.openai.com/docs/guides/reasoning, "Keeping reasoning items in context").
    """
    seen: set[Any] = set()
    for part in [part for message in messages if message.role == 'assistant' for part in message.content]:
        id = _own(part, 'openai-responses').get('id')
        if isinstance(part, ReasoningPart):
            seen.add(id)
            _check_item(part, id, seed, stored=stored)
        elif isinstance(part, ToolRequestPart) and id is not None:
            stamp = thought_stamp(part.tool_request.ref)
            if stamp is not None and f'rs_{stamp}' not in seen:
                raise _refused(_ALONE.format(id=id, reasoning=f'rs_{stamp}'), param='input')


_ALONE = "Item '{id}' of type 'function_call' was provided without its required 'reasoning' item: '{reasoning}'."
_NOT_KEPT = (
    "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to "
    'true, or remove this item from your input.'
)


def _check_item(part: ReasoningPart, id: Any, seed: int, *, stored: bool) -> None:
    if part.signature is None and id is not None and not stored:
        raise LamellaError('NOT_FOUND', _NOT_KEPT.format(id=id), details={'param': 'input', 'code': None})
    if part.signature is not None and opened(seed, part.signature) is None:
        said = f'The encrypted content {part.signature[:8]}... could not be verified.'
        raise _refused(said, code='invalid_encrypted_content')


def _own(part: Part, key: str) -> dict[str, Any]:
    own = (part.metadata or {}).get(key)
    return own if isinstance(own, dict) else {}


def _refused(message: str, **details: Any) -> LamellaError:
    return LamellaError('INVALID_ARGUMENT', message, details=details)


def _placed(messages: Sequence[Message]) -> Iterator[tuple[int, Message]]:
    """Each message with its place on the wire, where results of tools and the text after them are one message."""
    place, before = -1, ''
    for message in messages:
        if message.role != 'system' and not (message.role == 'user' and before == 'tool'):
            place += 1
        before = message.role
        yield max(place, 0), message


def _current_turn(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """What the model did, and the tools answered, since the user last spoke."""
    start = max((at for at, message in enumerate(messages) if message.role == 'user'), default=-1)
    return list(_placed(messages))[start + 1 :]
