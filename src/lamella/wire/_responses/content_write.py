"""What a caller puts into messages and tool outputs, as `input_text`, `input_image`, `input_file`, `input_audio`.

Shapes: platform.openai.com/docs/api-reference/responses/create, "input".
"""

from __future__ import annotations

from typing import Any

import msgspec

from lamella.types import JSON, DataPart, LamellaError, MediaPart, Part, ReasoningPart, TextPart
from lamella.wire._openai_json import dict_or_empty
from lamella.wire._openai_media import audio_format, bytes_of, content_type_of, data_url, to_base64
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_write import is_item, text_extras


class ContentWriter:
    """Writes the content of messages that are not the model's. `warnings` collects what the protocol cannot say."""

    def __init__(self, marks: Marks, warnings: list[str]) -> None:
        self.marks = marks
        self.warnings = warnings

    def content(self, parts: tuple[Part, ...], where: str) -> str | list[JSON]:
        """A plain text as a string, anything else as blocks."""
        if not parts:
            return ''
        if len(parts) == 1 and type(parts[0]) is TextPart and not text_extras(parts[0], self.marks):
            return parts[0].text
        blocks = [self.block(part, f'{where}.content[{i}]') for i, part in enumerate(parts)]
        return [block for block in blocks if block is not None]

    def block(self, part: Part, where: str) -> JSON | None:
        """The block, or `None` for what another vendor made. Raises LamellaError for what belongs elsewhere."""
        if type(part) is TextPart:
            return {'type': 'input_text', 'text': part.text, **text_extras(part, self.marks)}
        if type(part) is MediaPart:
            return self._media(part, where)
        if type(part) is ReasoningPart:
            return None
        if type(part) is DataPart:
            return self.data(part, where)
        raise LamellaError(
            'INVALID_ARGUMENT', f'{where} is a {type(part).__name__}: tool requests belong into assistant messages'
        )

    def data(self, part: DataPart, where: str) -> JSON | None:
        """A block or item as it is, `None` for what another vendor made."""
        if is_item(part, self.marks):
            return dict(part.data)
        self.warnings.append(f'{where}: a DataPart that is nothing of the Responses API: left out')
        return None

    def _media(self, part: MediaPart, where: str) -> JSON:
        shared = self.marks.shared_of(part.metadata)
        rest = {key: value for key, value in self.marks.own_of(part.metadata).items() if key not in ('type', 'item')}
        kind = content_type_of(part) or ('image/*' if part.url is not None else None)
        if kind is None:
            raise LamellaError(
                'INVALID_ARGUMENT', f"{where}: nothing tells what the data is: set content_type='image/png'"
            )
        if kind.startswith('image/'):
            detail = dict_or_empty(shared.get('image_url')).get('detail')
            image = {'type': 'input_image', 'image_url': _url(part, kind)}
            return {**image, **({'detail': detail} if detail else {}), **rest}
        if kind.startswith('audio/'):
            return {**_audio(part, kind, where), **rest}
        return {**_file(part, kind), **rest}


def _url(part: MediaPart, kind: str) -> str | None:
    return part.url if part.data is None else data_url(part.data, kind)


def _audio(part: MediaPart, kind: str, where: str) -> JSON:
    data = bytes_of(part)
    if data is None:
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'{where}: the Responses API takes {kind} as data only, not by url: pass MediaPart(data=…)',
        )
    return {'type': 'input_audio', 'input_audio': {'data': to_base64(data), 'format': audio_format(kind)}}


def _file(part: MediaPart, kind: str) -> JSON:
    data = bytes_of(part)
    if data is None:
        return {'type': 'input_file', 'file_url': part.url, **({'filename': part.name} if part.name else {})}
    return {'type': 'input_file', 'filename': part.name or 'file', 'file_data': data_url(data, kind)}


def parts_of_output(output: Any) -> list[Part] | None:
    """The parts that a tool answered with, also when they went through JSON; `None` for any other value."""
    items = output if isinstance(output, (list, tuple)) else [output]
    parts = [part for item in items if (part := _part_of_output(item)) is not None]
    return parts if len(parts) == len(items) and any(map(_is_part, items)) else None


def _is_part(item: Any) -> bool:
    return isinstance(item, (TextPart, MediaPart, DataPart)) or (isinstance(item, dict) and item.get('type') == 'media')


def _part_of_output(item: Any) -> Part | None:
    if isinstance(item, (TextPart, MediaPart, DataPart)):
        return item
    if not isinstance(item, dict) or item.get('type') not in ('text', 'media'):
        return None
    try:
        part = msgspec.convert(item, MediaPart | TextPart)
    except (msgspec.ValidationError, ValueError):
        return None
    return part if item['type'] == 'media' or set(item) <= {'type', 'text', 'metadata'} else None
