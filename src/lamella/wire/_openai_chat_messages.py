"""Messages of Lamella to messages of Chat Completions (platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    LamellaError,
    MediaPart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
    ToolResponsePart,
)
from lamella.wire._openai_chat_calls import INVALID_JSON
from lamella.wire._openai_chat_options import ChatOptions
from lamella.wire._openai_json import arguments_of, extras_of, merged, write
from lamella.wire._openai_media import audio_format, bytes_of, content_type_of, data_url, to_base64
from lamella.wire._tool_media import without_media

_FOLLOW = 'The files that this tool returned follow in the next message.'


class MessageWriter:
    """Writes the messages of one request. `warnings` collects what the protocol cannot say.

    Tool messages carry text alone: files that tools answered with wait until all answers of that turn are written, and then
    follow as one user message. `rest` gives what still waits at the end.
    """

    def __init__(self, options: ChatOptions, warnings: list[str]) -> None:
        self._options = options
        self._mark = options.provider
        self._warnings = warnings
        self._unanswered: list[tuple[str, str]] = []  # name and id of tool calls
        self._files: list[JSON] = []

    def write(self, index: int, message: Message) -> list[JSON]:
        """One message may become several: the answers of a tool message go one by one."""
        written = self._written(index, message)
        if self._files and message.role != 'tool':
            return [*self.rest(), *written]
        return written

    def rest(self) -> list[JSON]:
        """The files that have not followed yet."""
        files, self._files = self._files, []
        return [{'role': 'user', 'content': files}] if files else []

    def _written(self, index: int, message: Message) -> list[JSON]:
        content = message.content
        if len(content) == 1 and type(part := content[0]) is TextPart and not message.metadata and not part.metadata:
            role = self._options.system_role if message.role == 'system' else message.role
            if role != 'tool':
                return [{'role': role, 'content': part.text}]
        where = f'messages[{index}]'
        if message.role == 'assistant':
            return [self._with_extras(self._assistant(message, where), message)]
        if message.role == 'system':
            plain = {'role': self._options.system_role, 'content': self._content(message.content, where)}
            return [self._with_extras(plain, message)]
        return self._user_or_tool(message, where)

    def _with_extras(self, wire: JSON, message: Message) -> JSON:
        extras = extras_of(message.metadata, self._mark)
        return merged(wire, extras) if extras else wire

    def _user_or_tool(self, message: Message, where: str) -> list[JSON]:
        """Tool messages carry text only: what else a message of role `tool` holds follows as a user message."""
        answers = [
            self._tool_answer(part, f'{where}.content[{i}]')
            for i, part in enumerate(message.content)
            if type(part) is ToolResponsePart
        ]
        rest = tuple(part for part in message.content if type(part) is not ToolResponsePart)
        if answers and not rest:
            return answers
        if message.role == 'tool' and not rest:
            raise LamellaError(
                'INVALID_ARGUMENT', f'{where} of role tool has no ToolResponsePart: add one, or leave it out'
            )
        files = self.rest() if answers else []
        user = {'role': 'user', 'content': self._content(rest, where)}
        return [*answers, *files, self._with_extras(user, message)]

    def _tool_answer(self, part: ToolResponsePart, where: str) -> JSON:
        answer = part.tool_response
        output, media = without_media(answer.output)
        if media:
            self._follow(media, answer.name, where)
            output = _FOLLOW if output is None else output
        output = {'error': output} if answer.is_error else output
        content = output if isinstance(output, str) else write(output, lambda: {where: output}).decode()
        ref = self._answered(answer.name, answer.ref, where)
        wire = {'role': 'tool', 'tool_call_id': ref, 'content': content}
        return {**wire, **extras_of(part.metadata, self._mark)}

    def _follow(self, media: list[MediaPart], tool: str, where: str) -> None:
        """Put the files of one answer into the message that follows."""
        blocks = [_media(item, where) for item in media]
        self._files += [{'type': 'text', 'text': f'What the tool {tool} returned:'}, *blocks]
        self._warnings.append(
            f'{where}: the files that tool {tool!r} answered with follow in a user message, for a tool message carries text alone'
        )

    def _answered(self, name: str, ref: str | None, where: str) -> str:
        waiting = self._unanswered
        found = next((call for call in waiting if (call[1] == ref if ref else call[0] == name)), None)
        if found is not None:
            waiting.remove(found)
            return found[1]
        if ref:
            return ref
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'{where}: the answer of tool {name!r} has no ref, and no earlier request of that tool waits: set ref=',
        )

    def _assistant(self, message: Message, where: str) -> JSON:
        content = message.content
        calls = [part for part in content if type(part) is ToolRequestPart]
        audio = next((id for part in content if (id := self._audio_id(part))), None)
        text = ''.join([part.text for part in content if type(part) is TextPart])
        blocks = [block for part in content if (block := self._kept_block(part, where)) is not None]
        refusal = ''.join([block['refusal'] for block in blocks if _is_refusal(block)])
        others = [block for block in blocks if not _is_refusal(block)]
        wire: JSON = {'role': 'assistant', 'content': text or (None if calls or refusal or audio else '')}
        if others:
            wire['content'] = [*([{'type': 'text', 'text': text}] if text else []), *others]
        if refusal:
            wire['refusal'] = refusal
        if audio:
            wire['audio'], wire['content'] = {'id': audio}, None
        if calls:
            wire['tool_calls'] = [self._call(part, f'call_{where[9:-1]}_{i}') for i, part in enumerate(calls)]
        return {**wire, **self._reasoning(content)}

    def _audio_id(self, part: Part) -> str | None:
        audio = extras_of(part.metadata, self._mark).get('audio') if type(part) is MediaPart else None
        found = audio.get('id') if isinstance(audio, Mapping) else None
        return found if isinstance(found, str) else None

    def _kept_block(self, part: Part, where: str) -> Any:
        if type(part) is MediaPart and not self._audio_id(part):
            self._warnings.append(f'{where}: Chat Completions takes no media in an assistant message: left out')
        return self._block_of_ours(part, where) if type(part) is DataPart else None

    def _block_of_ours(self, part: DataPart, where: str) -> Any:
        """A block goes back to the provider that made it, and to no other. Without metadata it is the caller's own."""
        if (
            isinstance(part.data, Mapping)
            and 'type' in part.data
            and (not part.metadata or self._mark in part.metadata)
        ):
            return part.data
        self._warnings.append(f'{where}: a DataPart that is no content block of {self._mark}: left out')
        return None

    def _call(self, part: ToolRequestPart, new_id: str) -> JSON:
        request, extras = part.tool_request, extras_of(part.metadata, self._mark)
        ref = request.ref or new_id
        self._unanswered.append((request.name, ref))
        rest = {key: value for key, value in extras.items() if key != INVALID_JSON}
        if extras.get('type') == 'custom':
            custom = {'name': request.name, 'input': str(request.input)}
            return merged({'id': ref, 'type': 'custom', 'custom': custom}, rest)
        raw = request.input if INVALID_JSON in extras and isinstance(request.input, str) else None
        function = {'name': request.name, 'arguments': arguments_of(request.input) if raw is None else raw}
        return merged({'id': ref, 'type': 'function', 'function': function}, rest)

    def _reasoning(self, content: Iterable[Part]) -> JSON:
        """Reasoning goes back only where the server wants it: in its own field, or as the details it gave."""
        parts = [part for part in content if type(part) is ReasoningPart]
        text = ''.join([part.text for part in parts])
        details = [d for part in parts for d in extras_of(part.metadata, self._mark).get('reasoning_details', ())]
        wire: JSON = {'reasoning_details': details} if details else {}
        if text and self._options.reasoning_field:
            wire[self._options.reasoning_field] = text
        return wire

    def _content(self, parts: tuple[Part, ...], where: str) -> str | list[JSON]:
        if not parts:
            return ''
        if len(parts) == 1 and type(parts[0]) is TextPart and not extras_of(parts[0].metadata, self._mark):
            return parts[0].text
        blocks = [self._block(part, f'{where}.content[{i}]') for i, part in enumerate(parts)]
        return [block for block in blocks if block is not None]

    def _block(self, part: Part, where: str) -> JSON | None:
        if type(part) is ReasoningPart:
            return None
        if type(part) is DataPart:
            return self._block_of_ours(part, where)  # type: ignore[no-any-return]
        if type(part) is TextPart:
            wire: JSON = {'type': 'text', 'text': part.text}
        elif type(part) is MediaPart:
            wire = _media(part, where)
        else:
            raise LamellaError(
                'INVALID_ARGUMENT', f'{where} is a {type(part).__name__}: tool requests belong into assistant messages'
            )
        extras = extras_of(part.metadata, self._mark)
        return merged(wire, extras) if extras else wire


def _is_refusal(block: Any) -> bool:
    return block.get('type') == 'refusal' and isinstance(block.get('refusal'), str)


def _media(part: MediaPart, where: str) -> JSON:
    kind = content_type_of(part) or ('image/*' if part.url is not None else None)
    if kind is None:
        raise LamellaError('INVALID_ARGUMENT', f"{where}: nothing tells what the data is: set content_type='image/png'")
    if kind.startswith('image/'):
        url = part.url if part.data is None else data_url(part.data, kind)
        return {'type': 'image_url', 'image_url': {'url': url}}
    data = bytes_of(part)
    if data is None:
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'{where}: Chat Completions takes {kind} as data only, not by url: pass MediaPart(data=…)',
        )
    if kind.startswith('audio/'):
        return {'type': 'input_audio', 'input_audio': {'data': to_base64(data), 'format': audio_format(kind)}}
    return {'type': 'file', 'file': {'filename': part.name or 'file', 'file_data': data_url(data, kind)}}
