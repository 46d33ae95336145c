"""What differs between OpenAI's Chat Completions and the servers that are compatible with it."""

from __future__ import annotations

from typing import Literal

from lamella.types import Data


class ChatOptions(Data, frozen=True):
    """The settings of an `OpenAIChatCodec`; its docstring says what each does."""

    provider: str = 'openai'
    max_tokens_field: str = 'max_completion_tokens'
    system_role: Literal['system', 'developer'] = 'system'
    include_usage: bool = True
    reasoning_field: str | None = None
