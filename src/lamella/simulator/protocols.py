"""The wire protocols that the simulator speaks, and what each calls things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lamella.simulator.limits import Limits, anthropic_limits, no_limits, openai_limits
from lamella.simulator.thinking import (
    AnthropicThinking,
    ChatThinking,
    GeminiThinking,
    ResponsesThinking,
    Thinking,
)
from lamella.types import JSON, LamellaError, ModelRequest, Usage
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.codec import Codec
from lamella.wire.gemini import GeminiCodec
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec


def _no_facts(created: int, usage: Usage | None) -> JSON:
    return {}


@dataclass(frozen=True)
class Protocol:
    """A codec and the vendor's spelling of ids.

    `facts` are the response metadata that its codec writes into the body; `refuses` are options of the request that would
    need a server with a memory; `limits` are its rate-limit headers.
    """

    codec: Codec
    id_prefix: str
    call_prefix: str
    request_id_header: str
    thinking: Thinking
    facts: Callable[[int, Usage | None], JSON] = _no_facts
    limits: Limits = no_limits
    refuses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.codec.name

    def check(self, request: ModelRequest) -> None:
        """Raises INVALID_ARGUMENT for an option that it would be a lie to ignore."""
        for key in self.refuses:
            if request.provider_options.get(self.codec.provider, {}).get(key):
                said = f'{key} is set, and the simulator keeps no answers: send the whole conversation in one request'
                raise LamellaError('INVALID_ARGUMENT', said, details={'param': key})


def _openai_facts(created: int, usage: Usage | None) -> JSON:
    return {'openai': {'created': created, 'system_fingerprint': 'fp_lamella_simulator'}}


def _responses_facts(created: int, usage: Usage | None) -> JSON:
    return {'openai-responses': {'created_at': created}}


def _anthropic_facts(created: int, usage: Usage | None) -> JSON:
    """A stream tells first what the request cost, and at its end the rest."""
    return {} if usage is None else {'anthropic': {'usage': {'input_tokens': usage.input_tokens}}}


# platform.openai.com/docs/api-reference/chat/object and /responses/object, platform.claude.com/docs/en/api/messages,
# ai.google.dev/api/generate-content
OPENAI_CHAT = Protocol(
    OpenAIChatCodec(), 'chatcmpl-', 'call_', 'x-request-id', ChatThinking(), _openai_facts, openai_limits
)
OPENAI_RESPONSES = Protocol(
    OpenAIResponsesCodec(),
    'resp_',
    'call_',
    'x-request-id',
    ResponsesThinking(),
    _responses_facts,
    openai_limits,
    refuses=('previous_response_id', 'conversation', 'background'),
)
ANTHROPIC = Protocol(
    AnthropicCodec(), 'msg_', 'toolu_', 'request-id', AnthropicThinking(), _anthropic_facts, anthropic_limits
)
GEMINI = Protocol(GeminiCodec(), '', 'call_', 'x-request-id', GeminiThinking())
