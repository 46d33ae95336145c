"""`DefaultInstructions`: a system message for calls that have none, or in front of the one they have."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict, Unpack

from pydantic import AfterValidator, BaseModel, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import ModelHookParams
from lamella.types import Message

Ctx = GenerateMiddlewareContext
Mode = Literal['missing', 'prepend']


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError('is empty: write the instructions')
    return value


class DefaultInstructionsConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `DefaultInstructions`."""

    text: Annotated[str, Field(strict=True, description='The instructions.'), AfterValidator(_text)]
    mode: Annotated[
        Mode,
        Field(
            description="'missing': only for requests without a system message; 'prepend': in front of every request."
        ),
    ] = 'missing'


class DefaultInstructionsOptions(TypedDict, total=False):
    """The keywords of `DefaultInstructions`."""

    text: str
    mode: Mode


class DefaultInstructions(BaseMiddleware[DefaultInstructionsConfig]):
    """Puts a system message first, as `defaultInstructionsMiddleware` of the Vercel AI SDK does (ai-sdk.dev/docs).

    With `mode='missing'` a request that has any system message stays as it is; with `'prepend'` that one follows. A request
    that has these very instructions already never gets them again: not on a retry, and not from a second such layer.
    """

    def __init__(
        self, config: DefaultInstructionsConfig | None = None, **options: Unpack[DefaultInstructionsOptions]
    ) -> None:
        super().__init__(config, **options)
        self._message = Message.system(self.config.text)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        given = params.request.messages
        systems = [message for message in given if message.role == 'system']
        if systems and (self.config.mode == 'missing' or any(m.text == self.config.text for m in systems)):
            return params
        return params.replace(request=params.request.replace(messages=(self._message, *given)))
