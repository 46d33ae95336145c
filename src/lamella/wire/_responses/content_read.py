"""`input_text`, `input_image`, `input_file` and `input_audio` as parts.

Shapes: platform.openai.com/docs/api-reference/responses/create, "input".
"""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, DataPart, MediaPart, Part, TextPart
from lamella.wire._openai_json import Malformed, need, text_or_none, without
from lamella.wire._openai_media import audio_type, content_type_of, from_base64, from_data_url, media_of_url, sniff
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import ITEM


def read_content(content: Any, where: str, marks: Marks) -> list[Part]:
    """Raises Malformed. A block that Lamella does not know becomes a `DataPart` that holds it whole."""
    if isinstance(content, str):
        return [TextPart(content)]
    return [
        _read_block(need(block, dict, f'{where}[{i}]'), f'{where}[{i}]', marks)
        for i, block in enumerate(need(content, list, where))
    ]


def _read_block(block: JSON, where: str, marks: Marks) -> Part:
    kind = block.get('type')
    if kind == 'input_text':
        text = need(block.get('text'), str, f'{where}.text')
        return TextPart(text, marks.metadata(without(block, frozenset(('type', 'text')))))
    if kind == 'input_audio':
        return _read_audio(block, where, marks)
    found: Part | None = None
    if kind == 'input_image':
        found = _read_image(block, marks)
    if kind == 'input_file':
        found = _read_file(block, marks)
    need(kind, str, f'{where}.type')
    return found or DataPart(block, {marks.own: {ITEM: {}}})


def _read_image(block: JSON, marks: Marks) -> Part | None:
    """`None` for an image that only OpenAI has (`file_id`). `detail` is kept where Chat Completions finds it too."""
    url = text_or_none(block.get('image_url'))
    if url is None:
        return None
    detail = text_or_none(block.get('detail'))
    shared = {'image_url': {'detail': detail}} if detail else None
    rest = without(block, frozenset(('type', 'image_url', 'detail')))
    return media_of_url(url, metadata=marks.metadata(rest, shared))


def _read_file(block: JSON, marks: Marks) -> Part | None:
    name = text_or_none(block.get('filename'))
    metadata = marks.metadata(without(block, frozenset(('type', 'filename', 'file_data', 'file_url'))))
    if (data := text_or_none(block.get('file_data'))) is not None:
        return _inline_file(data, name, metadata)
    if (url := text_or_none(block.get('file_url'))) is None:
        return None
    part = MediaPart(url=url, name=name, metadata=metadata)
    return part.replace(content_type=content_type_of(part) or 'application/pdf')


def _inline_file(text: str, name: str | None, metadata: JSON | None) -> Part | None:
    """A data URL, or bare base64, which some clients send."""
    if from_data_url(text) is not None:
        return media_of_url(text, name, metadata)
    data = from_base64(text)
    if not data:
        return None
    part = MediaPart(data=data, name=name, metadata=metadata)
    return part.replace(content_type=content_type_of(part) or sniff(data) or 'application/octet-stream')


def _read_audio(block: JSON, where: str, marks: Marks) -> Part:
    inner = need(block.get('input_audio'), dict, f'{where}.input_audio')
    data = from_base64(need(inner.get('data'), str, f'{where}.input_audio.data'))
    if data is None:
        raise Malformed(f'{where}.input_audio.data', 'is no base64: encode the bytes with base64.b64encode')
    kind = audio_type(need(inner.get('format'), str, f'{where}.input_audio.format'))
    rest = without(block, frozenset(('type', 'input_audio')))
    return MediaPart(data=data, content_type=kind, metadata=marks.metadata(rest))
