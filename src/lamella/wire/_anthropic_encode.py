"""A request as the body of `POST /v1/messages`."""

from __future__ import annotations

from lamella.types import JSON, Message, ModelRequest
from lamella.wire._anthropic_blocks import BlockWriter
from lamella.wire._anthropic_json import KEY, extras_of
from lamella.wire._anthropic_settings import merged, settings


def request_body(request: ModelRequest, model: str, version: str, warnings: list[str]) -> JSON:
    """The body without `stream`. Adds to `warnings` what could not be said."""
    system, messages = _conversation(request.messages, warnings)
    body: JSON = {'model': model}
    if system:
        body['system'] = _short(system)
    body['messages'] = messages
    body.update(settings(request, model, version, warnings))
    return merged(body, request.provider_options.get(KEY, {}))


def _conversation(messages: tuple[Message, ...], warnings: list[str]) -> tuple[list[JSON], list[JSON]]:
    """System blocks, and turns in which user and assistant alternate."""
    writer = BlockWriter(warnings)
    system: list[JSON] = []
    turns: list[JSON] = []
    for i, message in enumerate(messages):
        blocks = _blocks(message, f'messages[{i}]', writer)
        extras = extras_of(message.metadata)
        if message.role == 'system' and 'role' not in extras:
            system += blocks
        elif blocks:
            _add({'role': 'user' if message.role == 'tool' else message.role, **extras, 'content': blocks}, turns)
    for turn in turns:
        turn['content'] = _short(_results_first(turn['content']) if turn['role'] == 'user' else turn['content'])
    return system, turns


def _blocks(message: Message, where: str, writer: BlockWriter) -> list[JSON]:
    blocks = [writer.block(part, f'{where}.content[{j}]') for j, part in enumerate(message.content)]
    said = [block for block in blocks if block is not None]
    return said if message.role == 'user' else [block for block in said if not _is_blank(block)]


def _is_blank(block: JSON) -> bool:
    """The API refuses its own answers' empty texts when they come back."""
    return block['type'] == 'text' and len(block) == 2 and not block['text'].strip()


def _add(turn: JSON, turns: list[JSON]) -> None:
    if not turns or turns[-1]['role'] != turn['role']:
        turns.append(turn)
        return
    content = turns[-1]['content'] + turn['content']
    turns[-1] = {**turns[-1], **turn, 'content': content}


def _results_first(blocks: list[JSON]) -> list[JSON]:
    """The API wants the results of tools before anything else in the message after their requests."""
    return sorted(blocks, key=lambda block: block['type'] != 'tool_result')


def _short(blocks: list[JSON]) -> list[JSON] | str:
    """One plain text as a string, which the API takes for the same."""
    if len(blocks) == 1 and blocks[0]['type'] == 'text' and len(blocks[0]) == 2:
        text: str = blocks[0]['text']
        return text
    return blocks
