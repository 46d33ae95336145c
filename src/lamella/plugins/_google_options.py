"""The fields of Google's requests that Lamella has no own setting for, in camelCase or snake_case."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_OBJECT = dict[str, Any]
_OBJECTS = list[dict[str, Any]]


class GoogleOptions(BaseModel):
    """`provider_options['google']` (ai.google.dev/api/generate-content), merged into the body as they are given; `None` takes
    a field out. `tools` are added to the request's own; fields of `generationConfig` may stand at the top or inside it.

    `extra_body` holds fields that are newer than this list.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    audio_timestamp: bool | None = None
    audio_transcription_config: _OBJECT | None = None
    automatic_continuation: Any = None
    cached_content: str | None = None
    candidate_count: int | None = None
    continuation_token: str | None = None
    enable_affective_dialog: bool | None = None
    enable_enhanced_civic_answers: bool | None = None
    extra_body: _OBJECT | None = Field(None, alias='extra_body')
    frequency_penalty: float | None = None
    generation_config: _OBJECT | None = None
    generation_output_config: _OBJECT | None = None
    image_config: _OBJECT | None = None
    labels: dict[str, str] | None = None
    logprobs: int | None = None
    max_output_tokens: int | None = None
    media_resolution: str | None = None
    model_armor_config: _OBJECT | None = None
    model_selection_config: _OBJECT | None = Field(None, alias='modelConfig')
    presence_penalty: float | None = None
    response_format: Any = None
    response_json_schema: Any = None
    response_logprobs: bool | None = None
    response_mime_type: str | None = None
    response_modalities: list[str] | None = None
    response_schema: _OBJECT | None = None
    routing_config: _OBJECT | None = None
    safety_settings: _OBJECTS | None = None
    seed: int | None = None
    service_tier: str | None = None
    speech_config: _OBJECT | None = None
    stop_sequences: list[str] | None = None
    store: bool | None = None
    system_instruction: str | _OBJECT | None = None
    temperature: float | None = None
    thinking_config: _OBJECT | None = None
    tool_config: _OBJECT | None = None
    tools: _OBJECTS | None = None
    top_k: float | None = None
    top_p: float | None = None
    translation_config: _OBJECT | None = None


class GoogleEmbeddingOptions(BaseModel):
    """`provider_options['google']` where texts are embedded (ai.google.dev/api/embeddings), merged into the body as they are
    given; `None` takes a field out. `task_type` is what the vectors are for, such as RETRIEVAL_QUERY.

    `extra_body` holds fields that are newer than this list.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    audio_track_extraction: bool | None = None
    auto_truncate: bool | None = None
    document_ocr: bool | None = None
    extra_body: _OBJECT | None = Field(None, alias='extra_body')
    mime_type: str | None = None
    output_dimensionality: int | None = None
    task_type: str | None = None
    title: str | None = None
