"""Ids that look like the vendors' and depend only on the seed and the request: the same run gives the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from lamella.simulator.protocols import Protocol
from lamella.simulator.seals import call_id
from lamella.types import Message, ModelResponse, Part, ReasoningPart, ToolRequestPart

# 2026-01-01T00:00:00Z: `created` stamps lie within twelve days from here.
EPOCH = 1_767_225_600
REMEMBERED = 100_000


class Stamps:
    """One id for each request, whatever the order in which requests arrive; a repeated request gets another one.

    The last 100,000 different requests are remembered for that.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._times: OrderedDict[bytes, int] = OrderedDict()

    def stamp(self, path: str, body: bytes) -> str:
        """24 hexadecimal digits."""
        digest = blake2b(f'{self._seed} {path} '.encode() + body, digest_size=12)
        times = self._times.pop(digest.digest(), 0)
        self._times[digest.digest()] = times + 1
        if len(self._times) > REMEMBERED:
            self._times.popitem(last=False)
        digest.update(str(times).encode())
        return digest.hexdigest()


def signed(response: ModelResponse, protocol: Protocol, stamp: str, model: str) -> ModelResponse:
    """The answer with its id, its tool calls' ids and its date, as the protocol spells them."""
    content = response.message.content
    thought = any(isinstance(part, ReasoningPart) for part in content)
    ids = [call_id(protocol.call_prefix, stamp, at, thought=thought) for at in range(len(content))]
    return response.replace(
        message=Message('assistant', tuple(map(_named, content, ids))),
        id=f'{protocol.id_prefix}{stamp}',
        model=model,
        metadata=protocol.facts(EPOCH + int(stamp[:5], 16), response.usage),
    )


def _named(part: Part, id: str) -> Part:
    if not isinstance(part, ToolRequestPart):
        return part
    return part.replace(tool_request=part.tool_request.replace(ref=id))
