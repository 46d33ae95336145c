"""The short way for the chunks that most of a stream is made of: a little text and nothing new beside it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    role: Literal['assistant'] | None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning: None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None


class _Chunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Facts that stand in every chunk are read in the first and the last, which do not come this way."""

    choices: Annotated[tuple[_Choice, ...], msgspec.Meta(min_length=1, max_length=1)]
    id: msgspec.Raw = msgspec.Raw()
    object: msgspec.Raw = msgspec.Raw()
    created: msgspec.Raw = msgspec.Raw()
    model: msgspec.Raw = msgspec.Raw()
    system_fingerprint: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    provider: msgspec.Raw = msgspec.Raw()
    obfuscation: msgspec.Raw = msgspec.Raw()
    usage: None = None
    error: None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def text_of_chunk(data: str) -> str:
    """The text, if that is all the chunk says. Raises ValueError for every other chunk."""
    return _decode(data).choices[0].delta.content
