"""Which requests of a client are model calls, and in which protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lamella.wire.anthropic import DEFAULT_VERSION, AnthropicCodec
from lamella.wire.codec import Codec
from lamella.wire.gemini import GeminiCodec, GeminiSSEDecoder
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec
from lamella.wire.sse import Event, SSEDecoder

Headers = Mapping[str, str]
# The vendors, and the keys of `provider_options` that the models of each read.
OPTION_KEYS: dict[str, tuple[str, ...]] = {
    'openai': ('openai',),
    'anthropic': ('anthropic',),
    'googleai': ('google', 'gemini', 'googleai'),
    'vertexai': ('google', 'gemini', 'vertexai'),
}


class _ChatPeek(msgspec.Struct):
    """What of a chat request decides how it is spelt again."""

    max_tokens: Any = None
    stream_options: Any = None

    @property
    def wants_usage(self) -> bool:
        return isinstance(self.stream_options, dict) and self.stream_options.get('include_usage') is True


@dataclass(frozen=True, slots=True)
class Route:
    """One model call: its protocol, the vendor as a provider's name, and what the path says of model and streaming.

    `adds_usage` says that the client did
    not ask for the usage of its stream, which layers may want to know: it is asked for, and kept from the client.
    """

    provider: str
    codec: Codec
    model: str | None = None
    stream: bool = False
    adds_usage: bool = False

    @property
    def events(self) -> SSEDecoder:
        return GeminiSSEDecoder() if isinstance(self.codec, GeminiCodec) else SSEDecoder()

    @property
    def has_blocks(self) -> bool:
        """Whether the events of a stream open and close blocks, so that one who takes over must know what is open."""
        return isinstance(self.codec, (AnthropicCodec, OpenAIResponsesCodec))

    def hides(self, event: Event) -> bool:
        """Whether the client, which did not ask for it, would stumble over this event."""
        if not self.adds_usage or '"usage"' not in event.data:
            return False
        chunk = msgspec.json.decode(event.data)
        return isinstance(chunk, dict) and chunk.get('choices') == [] and bool(chunk.get('usage'))


_Read = Callable[[re.Match[str], Headers, bytes, bool], Route]


def _chat(found: re.Match[str], headers: Headers, body: bytes, include_usage: bool) -> Route:
    """Azure has the model's name, as that of a deployment, in the path too."""
    try:
        peek = msgspec.json.decode(body, type=_ChatPeek)
    except (msgspec.DecodeError, UnicodeDecodeError):
        peek = _ChatPeek()
    codec = OpenAIChatCodec(
        max_tokens_field='max_completion_tokens' if peek.max_tokens is None else 'max_tokens',
        include_usage=include_usage or peek.wants_usage,
    )
    adds_usage = include_usage and not peek.wants_usage
    return Route('openai', codec, found['model'], adds_usage=adds_usage)


def _responses(found: re.Match[str], headers: Headers, body: bytes, include_usage: bool) -> Route:
    return Route('openai', OpenAIResponsesCodec(), found['model'])


def _anthropic(found: re.Match[str], headers: Headers, body: bytes, include_usage: bool) -> Route:
    codec = AnthropicCodec(headers.get('anthropic-version') or DEFAULT_VERSION)
    return Route('anthropic', codec)


def _gemini(found: re.Match[str], headers: Headers, body: bytes, include_usage: bool) -> Route:
    vertex = not found['model'].startswith(('models/', 'tunedModels/'))
    provider = 'vertexai' if vertex else 'googleai'
    model = found['model'].removeprefix('publishers/google/').removeprefix('models/')
    stream = found['verb'] == 'streamGenerateContent'
    return Route(provider, GeminiCodec(), model, stream)


_ROUTES: tuple[tuple[re.Pattern[str], _Read], ...] = (
    (re.compile(r'(?:/deployments/(?P<model>[^/]+))?/chat/completions$'), _chat),
    (re.compile(r'(?:/deployments/(?P<model>[^/]+))?/responses$'), _responses),
    (re.compile(r'/v1/messages$'), _anthropic),
    (
        re.compile(
            r'/(?P<model>(?:publishers/[^/:]+/models|endpoints|models|tunedModels)/[^/:]+)'
            r':(?P<verb>generateContent|streamGenerateContent)$'
        ),
        _gemini,
    ),
)


def is_model_call(method: str, path: str) -> bool:
    return method == 'POST' and any(pattern.search(path) for pattern, _ in _ROUTES)


def route_of(path: str, headers: Headers, body: bytes, *, include_usage: bool) -> Route | None:
    """The model call that a POST to this path is, or `None`."""
    for pattern, read in _ROUTES:
        if found := pattern.search(path):
            return read(found, headers, body, include_usage)
    return None


def path_for(path: str, model: str) -> str:
    """The same path for another model of the same vendor, where the path names the model."""
    for pattern, _ in _ROUTES:
        found = pattern.search(path)
        if found is None or found.groupdict().get('model') is None:
            continue
        start, end = found.span('model')
        return path[:start] + named_like(found['model'], model) + path[end:]
    return path


def named_like(named: str, model: str) -> str:
    """Another model's name in the place of this one, in the same collection."""
    if '/' not in named or '/' in model:
        return model
    return f'publishers/google/models/{model}' if named.startswith(('publishers/', 'endpoints/')) else f'models/{model}'
