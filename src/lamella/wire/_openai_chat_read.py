"""Messages of Chat Completions to messages of Lamella (platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, DataPart, MediaPart, Message, Part, TextPart, ToolResponse, ToolResponsePart
from lamella.types.messages import Role
from lamella.wire._openai_chat_calls import reasoning_of, refusal_part, tool_requests_of
from lamella.wire._openai_json import Malformed, dict_or_empty, marked, need, parse, shown, text_or_none, without
from lamella.wire._openai_media import audio_type, from_base64, media_of_url

_SHORT = ('user', 'assistant', 'system')
_SYSTEM_ROLES = ('system', 'developer')
_INNER = {'image_url': ('url',), 'input_audio': ('data', 'format'), 'file': ('file_data', 'filename')}
_ASSISTANT = frozenset(
    ('role', 'content', 'refusal', 'tool_calls', 'function_call', 'reasoning_content', 'reasoning', 'reasoning_details')
)
_TOOL = frozenset(('role', 'content', 'tool_call_id', 'name'))


class MessageReader:
    """Reads messages in order; remembers which tool a call's id belongs to, which a tool message does not say."""

    def __init__(self, mark: str) -> None:
        self.messages: list[Message] = []
        self._mark = mark
        self._names: dict[str, str] = {}

    def read(self, message: JSON, where: str) -> None:
        role, content = message.get('role'), message.get('content')
        if len(message) == 2 and role in _SHORT and type(content) is str and content:
            self.messages.append(Message(role, (TextPart(content),)))
        elif role in _SYSTEM_ROLES or role == 'user':
            self._plain(message, role, where)
        elif role == 'assistant':
            self._assistant(message, where)
        elif role in ('tool', 'function'):
            self._answer(message, where)
        else:
            raise Malformed(f'{where}.role', f'is {shown(role)}: use system, developer, user, assistant or tool')

    def _add(self, role: Role, content: list[Part], rest: JSON) -> None:
        self.messages.append(Message(role, tuple(content), marked(self._mark, rest) or {}))

    def _plain(self, message: JSON, role: str, where: str) -> None:
        rest = without(message, frozenset(('role', 'content')))
        content = self._content(message.get('content'), f'{where}.content')
        if role == 'developer':
            rest['role'] = role
        self._add('user' if role == 'user' else 'system', content, rest)

    def _content(self, content: Any, where: str) -> list[Part]:
        if isinstance(content, str):
            return [TextPart(content)]
        return [
            self._block(need(block, dict, f'{where}[{i}]'), f'{where}[{i}]')
            for i, block in enumerate(need(content, list, where))
        ]

    def _block(self, block: JSON, where: str) -> Part:
        kind = block.get('type')
        if kind == 'text':
            text = need(block.get('text'), str, f'{where}.text')
            return TextPart(text, marked(self._mark, without(block, frozenset(('type', 'text')))))
        if kind in ('image_url', 'input_audio', 'file'):
            return self._media(block, kind, where)
        need(kind, str, f'{where}.type')
        return DataPart(block, {self._mark: {}})

    def _media(self, block: JSON, kind: str, where: str) -> Part:
        inner = need(block.get(kind), dict, f'{where}.{kind}')
        rest = without(block, frozenset(('type', kind)))
        if inside := without(inner, frozenset(_INNER[kind])):
            rest[kind] = inside
        metadata = marked(self._mark, rest)
        if kind == 'image_url':
            return media_of_url(need(inner.get('url'), str, f'{where}.{kind}.url'), metadata=metadata)
        if kind == 'input_audio':
            return self._audio(inner, f'{where}.{kind}', metadata)
        if not isinstance(inner.get('file_data'), str):
            return DataPart(block, {self._mark: {}})
        return media_of_url(inner['file_data'], text_or_none(inner.get('filename')), metadata)

    def _audio(self, inner: JSON, where: str, metadata: JSON | None) -> Part:
        data = from_base64(need(inner.get('data'), str, f'{where}.data'))
        if data is None:
            raise Malformed(f'{where}.data', 'is no base64: encode the bytes with base64.b64encode')
        kind = audio_type(need(inner.get('format'), str, f'{where}.format'))
        return MediaPart(data=data, content_type=kind, metadata=metadata)

    def _assistant(self, message: JSON, where: str) -> None:
        reasoning = reasoning_of(message, self._mark)
        content: list[Part] = [] if reasoning is None else [reasoning]
        if message.get('content') not in (None, ''):
            content += self._content(message['content'], f'{where}.content')
        if (refusal := text_or_none(message.get('refusal'))) is not None:
            content.append(refusal_part(refusal, self._mark))
        for call in tool_requests_of(message, where, self._mark):
            self._names[call.tool_request.ref or ''] = call.tool_request.name
            content.append(call)
        self._add('assistant', content, without(message, _ASSISTANT))

    def _answer(self, message: JSON, where: str) -> None:
        """Tool messages in a row are the answers of one turn: one message of Lamella."""
        ref = text_or_none(message.get('tool_call_id'))
        if ref is None and message['role'] == 'tool':
            raise Malformed(f'{where}.tool_call_id', 'is missing: name the tool call that this answers')
        if ref is None:
            need(message.get('name'), str, f'{where}.name')
        content, rest = message.get('content'), without(message, _TOOL)
        name = text_or_none(message.get('name')) or self._names.get(ref or '', '')
        output, is_error = self._output(content, rest, f'{where}.content')
        part = ToolResponsePart(ToolResponse(name, output, ref, is_error), marked(self._mark, rest))
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == 'tool':
            self.messages[-1] = last.replace(content=(*last.content, part))
        else:
            self._add('tool', [part], {})

    def _output(self, content: Any, rest: JSON, where: str) -> tuple[Any, bool]:
        if not isinstance(content, str):
            blocks = need(content, list, where)
            rest['content'] = blocks
            return ''.join(
                [text for block in blocks if (text := text_or_none(dict_or_empty(block).get('text')))]
            ), False
        if not content.startswith('{"error":'):
            return content, False
        try:
            value = parse(content)
        except Malformed:
            return content, False
        return (value['error'], True) if value.keys() == {'error'} else (content, False)
