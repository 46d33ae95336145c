"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from lamella.types.base import JSON, Data
from lamella.types.messages import Message


class GenerationConfig(Data, frozen=True):
    """Settings every provider knows in some form; anything else goes into `provider_options`.

    `max_output_tokens` counts tokens; `stop_sequences` are exact strings; `reasoning_effort` is the provider's word
    (`low`, `medium`, `high` …); `logprobs` is the number of alternatives wanted for each token.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    logprobs: int | None = None

    def over(self, base: GenerationConfig) -> GenerationConfig:
        """These settings where they are set, `base` elsewhere."""
        return msgspec.structs.replace(base, **set_fields(self))


def set_fields(config: Data) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    return {
        field.name: value
        for field in msgspec.structs.fields(config)
        if (value := getattr(config, field.name)) != field.default
    }


class ToolDefinition(Data, frozen=True):
    """What a model is told of a tool. `input_schema` is a JSON Schema object."""

    name: str
    description: str = ''
    input_schema: JSON = {}
    output_schema: JSON | None = None
    metadata: JSON | None = None


class OutputSpec(Data, frozen=True):
    """The wanted shape of the answer. `schema` is a JSON Schema, or `None` for any JSON value."""

    format: Literal['text', 'json'] = 'text'
    schema: JSON | None = None
    name: str = 'output'
    strict: bool | None = None


class ToolChoice(Data, frozen=True):
    """Whether the model may call tools: `auto`, `none`, `required`, or `tool` with the `name` of the one to call."""

    mode: Literal['auto', 'none', 'required', 'tool'] = 'auto'
    name: str | None = None


class ModelRequest(Data, frozen=True):
    """One request to one model.

    `provider_options` maps a provider's name to its own options; a provider sees only its own. `metadata` travels with the
    request through the layers and is never sent.
    """

    messages: tuple[Message, ...] = ()
    config: GenerationConfig = GenerationConfig()
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice | None = None
    output: OutputSpec | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = {}
    metadata: Mapping[str, Any] = {}
