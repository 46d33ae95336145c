"""What a vendor's API says besides answers: its models, and token counts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from lamella.simulator.exchange import Exchange
from lamella.simulator.identity import EPOCH
from lamella.simulator.protocols import GEMINI, OPENAI_CHAT, Protocol
from lamella.simulator.tokens import count_request
from lamella.types import JSON

ALWAYS = 'lamella-simulator'
_CREATED_AT = '2026-01-01T00:00:00Z'
_WINDOW = 1_000_000


def names(exchange: Exchange) -> list[str]:
    """One name that is always there, and those that were asked for so far; any other name would answer too."""
    return list(dict.fromkeys([ALWAYS, *sorted(exchange.state.counts)]))


async def list_models(exchange: Exchange, body: bytes) -> web.StreamResponse:
    return await exchange.json(msgspec.json.encode(model_list(exchange.protocol, names(exchange))))


async def one_model(exchange: Exchange, body: bytes) -> web.StreamResponse:
    return await exchange.json(msgspec.json.encode(model(exchange.protocol, exchange.request.match_info['model'])))


def model_list(protocol: Protocol, found: Sequence[str]) -> JSON:
    """platform.openai.com/docs/api-reference/models/list, platform.claude.com/docs/en/api/models/list,
    ai.google.dev/api/models#method:-models.list"""
    shown = [model(protocol, name) for name in found]
    if protocol is GEMINI:
        return {'models': shown}
    if protocol is OPENAI_CHAT:
        return {'object': 'list', 'data': shown}
    return {'data': shown, 'has_more': False, 'first_id': found[0], 'last_id': found[-1]}


def model(protocol: Protocol, name: str) -> JSON:
    if protocol is GEMINI:
        limits = {'inputTokenLimit': _WINDOW, 'outputTokenLimit': _WINDOW}
        methods = ['generateContent', 'streamGenerateContent', 'countTokens', 'embedContent', 'batchEmbedContents']
        shown = {'name': f'models/{name}', 'version': '001', 'displayName': name, **limits}
        return {**shown, 'supportedGenerationMethods': methods}
    if protocol is OPENAI_CHAT:
        return {'id': name, 'object': 'model', 'created': EPOCH, 'owned_by': 'lamella-simulator'}
    return {'type': 'model', 'id': name, 'display_name': name, 'created_at': _CREATED_AT}


async def count_tokens(exchange: Exchange, body: bytes) -> web.StreamResponse:
    """platform.claude.com/docs/en/api/messages-count-tokens, ai.google.dev/api/tokens"""
    in_path = exchange.request.match_info.get('model')
    decoded = exchange.protocol.codec.decode_request(counted_body(body), model=in_path)
    exchange.record.model, exchange.record.request = decoded.model, decoded.request
    count = count_request(decoded.request)
    return await exchange.json(
        msgspec.json.encode({'totalTokens': count} if exchange.protocol is GEMINI else {'input_tokens': count})
    )


def counted_body(body: bytes) -> bytes:
    """Gemini takes the whole request wrapped as `generateContentRequest` too."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body
    wrapped = value.get('generateContentRequest') if isinstance(value, dict) else None
    return msgspec.json.encode(wrapped) if isinstance(wrapped, dict) else body
