"""Token counts by word class: the simulator's own stated rule, not any vendor's tokenizer.

A word counts one token for each started six letters, a number one for each started three digits; every other visible sign
(punctuation, an emoji, a Chinese, Japanese or Korean character) counts one, and so does every line break; other spaces are
free. A message costs three tokens more for its frame, a media part 256.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lamella.types import (
    DataPart,
    MediaPart,
    Message,
    ModelRequest,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
    Usage,
)

MESSAGE_FRAME = 3
MEDIA = 256
_CJK = '\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af'
_TOKEN = re.compile(rf'(?P<word>[^\W\d_{_CJK}]+)|(?P<number>\d+)|\n|\S')
_PIECE = re.compile(rf'\s*(?:[^\W\d_{_CJK}]+|\d+|\S)|\s+')


def count_text(text: str) -> int:
    return sum(map(_cost, _TOKEN.finditer(text)))


def _cost(match: re.Match[str]) -> int:
    length = match.end() - match.start()
    if match['word']:
        return -(-length // 6)
    return -(-length // 3) if match['number'] else 1


def pieces(text: str) -> list[str]:
    """The text cut the way a stream sends it: a word, a number or a sign with the space before it. Joined, the text."""
    return _PIECE.findall(text)


def truncated(text: str, max_tokens: int) -> str:
    """As many whole pieces as `max_tokens` allows."""
    kept, spent = [], 0
    for piece in pieces(text):
        spent += count_text(piece)
        if spent > max_tokens:
            break
        kept.append(piece)
    return ''.join(kept)


def count_json(value: Any) -> int:
    return count_text(msgspec.json.encode(value).decode())


def count_part(part: Part) -> int:
    if isinstance(part, (TextPart, ReasoningPart)):
        return count_text(part.text)
    if isinstance(part, MediaPart):
        return MEDIA
    if isinstance(part, DataPart):
        return count_json(part.data)
    if isinstance(part, ToolRequestPart):
        return count_text(part.tool_request.name) + count_json(part.tool_request.input)
    return count_text(part.tool_response.name) + count_json(part.tool_response.output)


def count_message(message: Message) -> int:
    return sum(map(count_part, message.content))


def count_request(request: ModelRequest) -> int:
    """Messages, tools and the wanted schema: all that a model would have to read."""
    return sum(_request_counts(request))


def _request_counts(request: ModelRequest) -> Iterator[int]:
    for message in request.messages:
        yield MESSAGE_FRAME + count_message(message)
    for tool in request.tools:
        yield count_text(tool.name) + count_text(tool.description) + count_json(tool.input_schema)
    if request.output is not None and request.output.schema is not None:
        yield count_json(request.output.schema)


def usage_of(request: ModelRequest, answer: Message) -> Usage:
    paid, written = count_request(request), count_message(answer)
    return Usage(input_tokens=paid, output_tokens=written, total_tokens=paid + written)
