"""The fields of OpenAI's requests that Lamella has no own setting for, by the API's names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

_OBJECT = dict[str, Any]
_OBJECTS = list[dict[str, Any]]


class _Both(BaseModel):
    """What both protocols have."""

    extra_body: _OBJECT | None = None
    metadata: dict[str, str] | None = None
    moderation: _OBJECT | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: _OBJECT | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream_options: _OBJECT | None = None
    temperature: float | None = None
    tool_choice: str | _OBJECT | None = None
    tools: _OBJECTS | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    user: str | None = None
    verbosity: str | None = None


class _OfChat(BaseModel):
    """What Chat Completions alone has. The Responses API's codec says in a warning that it left these out."""

    audio: _OBJECT | None = None
    function_call: str | _OBJECT | None = None
    functions: _OBJECTS | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    n: int | None = None
    prediction: _OBJECT | None = None
    web_search_options: _OBJECT | None = None


class OpenAIChatOptions(_Both, _OfChat):
    """`provider_options['openai']` over Chat Completions (platform.openai.com/docs/api-reference/chat/create), merged into
    the body as they are given. `None` takes a field out. `tools` are added to the request's own.

    `extra_body` holds fields that are newer than this list, or that a compatible server alone has.
    """

    frequency_penalty: float | None = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    response_format: _OBJECT | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class OpenAIResponsesOptions(_Both, _OfChat):
    """`provider_options['openai']` over the Responses API (platform.openai.com/docs/api-reference/responses/create), merged
    into the body as they are given. `None` takes a field out. `tools` are added to the request's own.

    `extra_body` holds fields that are newer than this list, or that a compatible server alone has.
    """

    access_programs: Any = None
    background: bool | None = None
    background_options: _OBJECT | None = None
    context_management: Any = None
    conversation: str | _OBJECT | None = None
    image: _OBJECT | None = None
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    prompt: _OBJECT | None = None
    reasoning: _OBJECT | None = None
    text: _OBJECT | None = None
    truncation: Literal['auto', 'disabled'] | None = None


class OpenAIEmbeddingOptions(BaseModel):
    """`provider_options['openai']` where texts are embedded (platform.openai.com/docs/api-reference/embeddings/create), merged
    into the body as they are given. `None` takes a field out. A server that refuses base64 wants `encoding_format='float'`.

    `extra_body` holds fields that a compatible server alone has.
    """

    dimensions: int | None = None
    encoding_format: Literal['float', 'base64'] | None = None
    extra_body: _OBJECT | None = None
    user: str | None = None
