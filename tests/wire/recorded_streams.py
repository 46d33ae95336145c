"""The documented streams of every protocol, as events and as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lamella.types import StreamPart
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.codec import Codec
from lamella.wire.gemini import GeminiCodec, GeminiSSEDecoder
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec
from lamella.wire.sse import Event, SSEDecoder, encode_event
from tests.wire import anthropic_events, openai_chat_answers, openai_responses_events
from tests.wire.test_gemini_stream import EXAMPLE

MESSAGES: Any = [{'role': 'user', 'content': 'hi'}]


@dataclass(frozen=True)
class Protocol:
    """A protocol, and a request of a stream in it: where it is sent, and its body."""

    codec: Codec
    path: str
    asked: dict[str, Any]

    def parts(self, pieces: Iterable[bytes]) -> list[StreamPart]:
        """What the codec reads in a body that comes in these pieces. Raises what it raises."""
        events: SSEDecoder = GeminiSSEDecoder() if isinstance(self.codec, GeminiCodec) else SSEDecoder()
        decoder, parts = self.codec.stream_decoder(), list[StreamPart]()
        for piece in pieces:
            for event in events.feed(piece):
                parts += decoder.feed(event)
        for event in events.finish():
            parts += decoder.feed(event)
        return [*parts, *decoder.finish()]


CHAT = Protocol(
    OpenAIChatCodec(),
    '/v1/chat/completions',
    {'model': 'm', 'stream': True, 'messages': MESSAGES, 'stream_options': {'include_usage': True}},
)
RESPONSES = Protocol(OpenAIResponsesCodec(), '/v1/responses', {'model': 'm', 'stream': True, 'input': 'hi'})
ANTHROPIC = Protocol(
    AnthropicCodec(), '/v1/messages', {'model': 'm', 'stream': True, 'max_tokens': 10, 'messages': MESSAGES}
)
GEMINI = Protocol(
    GeminiCodec(), '/v1beta/models/m:streamGenerateContent?alt=sse', {'contents': [{'parts': [{'text': 'hi'}]}]}
)


@dataclass(frozen=True)
class Recorded:
    """One stream."""

    name: str
    protocol: Protocol
    events: list[Event]

    @property
    def body(self) -> bytes:
        return body_of(self.events)


def body_of(events: Iterable[Event]) -> bytes:
    return b''.join([encode_event(event.data, None if event.event == 'message' else event.event) for event in events])


def _named(event: Any) -> Event:
    return Event(event['type'], json.dumps(event))


STREAMS = [
    *[Recorded(f'chat: {name}', CHAT, openai_chat_answers.events(name)) for name in openai_chat_answers.ANSWERS],
    *[
        Recorded(f'responses: {name}', RESPONSES, list(map(_named, openai_responses_events.events_of(answer))))
        for name, answer in openai_responses_events.ANSWERS.items()
    ],
    *[
        Recorded(
            f'anthropic: {name}',
            ANTHROPIC,
            list(map(_named, anthropic_events.events_of(anthropic_events.message(name)))),
        )
        for name in anthropic_events.ANSWERS
    ],
    Recorded('gemini', GEMINI, [Event(data=json.dumps(chunk)) for chunk in EXAMPLE]),
]
