"""A whole answer of Chat Completions to a response, and back."""

from __future__ import annotations

from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    MediaPart,
    Message,
    ModelResponse,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
)
from lamella.wire._openai_chat_calls import INVALID_JSON, reasoning_of, refusal_part, tool_requests_of
from lamella.wire._openai_chat_facts import (
    Facts,
    annotation_of,
    finish_to_wire,
    response_id,
    sources_of,
    split_metadata,
    usage_to_wire,
)
from lamella.wire._openai_json import (
    Malformed,
    arguments_of,
    dict_or_empty,
    extras_of,
    list_or_empty,
    need,
    parse,
    text_or_none,
    write,
)
from lamella.wire._openai_media import data_url, from_base64, media_of_url, sniff, to_base64
from lamella.wire.errors import error_from_event


def decode_response(body: bytes, mark: str) -> ModelResponse:
    """Raises Malformed for what is no answer, and LamellaError for an error that came with a 200."""
    data = need(parse(body), dict, 'the answer')
    if data.get('error'):
        raise error_from_event(data)
    choices = need(data.get('choices'), list, 'the answer: choices')
    if not choices:
        raise Malformed('the answer: choices', 'is empty')
    choice = need(choices[0], dict, 'the answer: choices[0]')
    message = need(choice.get('message'), dict, 'the answer: choices[0].message')
    facts = Facts(mark)
    facts.choices = len(choices)
    facts.read_root(data)
    facts.read_choice(choice)
    facts.read_message(message)
    content = read_content(message, facts)
    calls, cut = whole_calls(tool_requests_of(message, 'the answer: message', mark), facts.finish)
    metadata = facts.metadata()
    if facts.choices > 1:
        metadata.setdefault(mark, {})['choices'] = choices[1:]
    return ModelResponse(
        message=Message('assistant', (*content, *calls, *media_of(message, mark))),
        finish_reason=facts.finish_reason(bool(calls)),
        finish_message=facts.finish_message,
        usage=facts.usage,
        model=facts.model,
        id=facts.id,
        sources=tuple(sources_of(message, mark)),
        metadata=metadata,
        warnings=(*facts.warnings(), *cut),
    )


def read_content(message: JSON, facts: Facts) -> list[Part]:
    """Reasoning, text and refusal, in this order."""
    found: list[Part] = []
    if (reasoning := reasoning_of(message, facts.mark)) is not None:
        found.append(reasoning)
    found += content_parts(message.get('content'), facts.mark)
    if transcript := text_or_none(dict_or_empty(message.get('audio')).get('transcript')):
        found.append(TextPart(transcript))
    if facts.refusal:
        found.append(refusal_part(''.join(facts.refusal), facts.mark))
    return found


def content_parts(content: Any, mark: str) -> list[Part]:
    """Text, or blocks of servers that answer in blocks (docs.mistral.ai, "Reasoning"). Raises Malformed."""
    if content is None or content == '':
        return []
    if isinstance(content, str):
        return [TextPart(content)]
    found: list[Part] = []
    for block in need(content, list, 'the answer: content'):
        block = need(block, dict, 'the answer: a block of content')
        if isinstance(block.get('text'), str):
            found.append(TextPart(block['text']))
        elif block.get('type') == 'thinking':
            found.append(ReasoningPart(_thinking(block.get('thinking'))))
        else:
            found.append(DataPart(block, {mark: {}}))
    return found


def _thinking(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ''.join([text for block in list_or_empty(value) if (text := text_or_none(dict_or_empty(block).get('text')))])


def whole_calls(calls: list[ToolRequestPart], finish: str | None) -> tuple[list[ToolRequestPart], tuple[str, ...]]:
    """The calls without those that the token limit cut off: half an input is no input, and none at all is not empty."""
    if finish not in ('length', 'max_tokens', 'model_length'):
        return calls, ()
    cut = [call for call in calls if not call.tool_request.input or INVALID_JSON in _any_extras(call)]
    kept = [call for call in calls if call not in cut]
    return kept, tuple(
        f'the token limit cut off the request of tool {call.tool_request.name!r}: left out' for call in cut
    )


def _any_extras(call: ToolRequestPart) -> JSON:
    return {key: value for fields in (call.metadata or {}).values() for key, value in dict_or_empty(fields).items()}


def media_of(message: JSON, mark: str) -> list[MediaPart]:
    """Images (OpenRouter's `images`) and sound (`audio`) that the model made."""
    images = [dict_or_empty(dict_or_empty(image).get('image_url')) for image in list_or_empty(message.get('images'))]
    found = [media_of_url(url) for image in images if (url := text_or_none(image.get('url')))]
    audio = dict_or_empty(message.get('audio'))
    data = from_base64(text_or_none(audio.get('data')) or '')
    return [*found, audio_part(data, audio, mark)] if data else found


def audio_part(data: bytes, audio: JSON, mark: str) -> MediaPart:
    """The sound; its id is what goes back in a conversation (platform.openai.com/docs/guides/audio)."""
    facts = {key: audio[key] for key in ('id', 'expires_at') if key in audio}
    return MediaPart(data=data, content_type=sniff(data) or 'audio/l16', metadata={mark: {'audio': facts}})


def encode_response(response: ModelResponse, model: str, mark: str, reasoning_field: str) -> bytes:
    root, choice_rest, message_rest, usage_rest = split_metadata(response.metadata, mark)
    message = {**message_to_wire(response, mark, reasoning_field), **message_rest}
    logprobs = response.metadata.get('logprobs')
    choice = {
        'index': 0,
        'message': message,
        'logprobs': {'content': logprobs, 'refusal': None} if logprobs else None,
        'finish_reason': finish_to_wire(response.finish_reason, message.get('refusal') is not None),
        **choice_rest,
    }
    others = list_or_empty(root.pop('choices', None))
    body = {
        'id': response_id(response, write(message, lambda: {'message': message})),
        'object': 'chat.completion',
        'created': 0,
        'model': model,
        **root,
        'choices': [choice, *others],
    }
    if response.usage is not None:
        body['usage'] = usage_to_wire(response.usage, usage_rest)
    return write(body, lambda: body)


def message_to_wire(response: ModelResponse, mark: str, reasoning_field: str) -> JSON:
    """The assistant's message. What the protocol has no field for (blocks of other vendors) is left out."""
    content = response.message.content
    refusals = [part.data['refusal'] for part in content if type(part) is DataPart and is_refusal(part)]
    refusal = ''.join(refusals) or None
    wire: JSON = {'role': 'assistant', 'content': response.text or None, 'refusal': refusal}
    if not (wire['content'] or refusal or response.tool_requests):
        wire['content'] = ''
    if response.reasoning:
        wire[reasoning_field] = response.reasoning
    details = [
        detail
        for part in content
        if type(part) is ReasoningPart
        for detail in extras_of(part.metadata, mark).get('reasoning_details', ())
    ]
    if details:
        wire['reasoning_details'] = details
    if response.sources:
        wire['annotations'] = [annotation_of(source, mark) for source in response.sources]
    if calls := response.tool_requests:
        wire['tool_calls'] = [call_to_wire(call, f'call_{i}', mark) for i, call in enumerate(calls)]
    for part in content:
        if type(part) is MediaPart:
            _add_media(wire, part, mark)
    return wire


def is_refusal(part: DataPart) -> bool:
    data = part.data
    return isinstance(data, dict) and data.get('type') == 'refusal' and isinstance(data.get('refusal'), str)


def call_to_wire(part: ToolRequestPart, new_id: str, mark: str) -> JSON:
    request, extras = part.tool_request, extras_of(part.metadata, mark)
    id = request.ref or new_id
    if extras.get('type') == 'custom':
        return {'id': id, 'type': 'custom', 'custom': {'name': request.name, 'input': str(request.input)}}
    raw = INVALID_JSON in extras and isinstance(request.input, str)
    arguments = request.input if raw else arguments_of(request.input)
    return {'id': id, 'type': 'function', 'function': {'name': request.name, 'arguments': arguments}}


def _add_media(wire: JSON, part: MediaPart, mark: str) -> None:
    kind = part.content_type or ''
    if kind.startswith('audio/') and part.data is not None:
        audio = dict_or_empty(extras_of(part.metadata, mark).get('audio'))
        known = {'id': 'audio', 'expires_at': 0, 'transcript': '', **audio}
        wire['audio'] = {**known, 'data': to_base64(part.data)}
    elif part.url is not None or kind.startswith('image/'):
        url = part.url if part.data is None else data_url(part.data, kind)
        images = wire.setdefault('images', [])
        images.append({'type': 'image_url', 'image_url': {'url': url}, 'index': len(images)})
