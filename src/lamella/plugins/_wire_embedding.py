"""An embedding model behind a wire protocol: one codec, one transport, and an address with credentials for each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.plugins._http import Transport
from lamella.plugins._options import checked
from lamella.plugins._wire_model import Target, refusal, refuse_page
from lamella.types import EmbeddingRequest, EmbeddingResponse
from lamella.wire.codec import EmbeddingCodec

Ctx = GenerateMiddlewareContext
Aim = Callable[[str], Awaitable[Target]]


class WireEmbeddingModel(EmbeddingModel):
    """Speaks one protocol to one provider. `aim(model)` gives the address and headers of a call, `keys` are those of
    `provider_options` that it reads and `options` what may stand there."""

    def __init__(
        self,
        name: str,
        codec: EmbeddingCodec,
        transport: Transport,
        aim: Aim,
        info: EmbeddingInfo,
        options: type[BaseModel],
        keys: tuple[str, ...],
    ) -> None:
        self.name, self.info = name, info
        self._short = name.partition('/')[2]
        self._codec, self._transport, self._aim = codec, transport, aim
        self._options, self._keys = options, keys

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return self._keys

    async def embed(self, request: EmbeddingRequest, ctx: Ctx) -> EmbeddingResponse:
        encoded = self._codec.encode_request(checked(request, self._keys, self._options), self._short)
        target = await self._aim(self._short)
        async with self._transport.post(target.url, target.headers, encoded.body) as answer:
            if answer.status >= 300:
                raise await refusal(answer, target, self.name, self._codec, ctx)
            refuse_page(answer, self.name)
            response = self._codec.decode_response(await answer.read())
        facts: dict[str, Any] = {'warnings': (*encoded.warnings, *response.warnings)}
        facts['model'] = self.name if response.model is None else f'{self.provider}/{response.model}'
        return response.replace(**facts)
