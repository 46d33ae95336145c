"""From an answer of the ADK to Lamella's, and back: what no layer changed comes out as the model gave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic_core import to_jsonable_python

from lamella.core.context import GenerateMiddlewareContext
from lamella.integrations.adk._json import answer_body, own_fields
from lamella.integrations.adk._requests import CODEC, MADE
from lamella.types import JSON, Message, ModelResponse, Part, ToolRequestPart

NOTE = 'adk'  # the key of metadata under which the ADK's own fields travel
_OF_THE_CODEC = frozenset((NOTE, 'gemini', 'logprobs'))


def heard(answer: LlmResponse, ctx: GenerateMiddlewareContext) -> ModelResponse:
    """The answer as layers see it. Calls get an id where the model gave none."""
    response = CODEC.decode_response(msgspec.json.encode(answer_body(answer)))
    if own := own_fields(answer):
        response = response.replace(metadata={**response.metadata, NOTE: own})
    content = tuple([_with_id(part, ctx) for part in response.message.content])
    return response.replace(message=Message('assistant', content))


def _with_id(part: Part, ctx: GenerateMiddlewareContext) -> Part:
    if not isinstance(part, ToolRequestPart) or part.tool_request.ref is not None:
        return part
    return part.replace(tool_request=part.tool_request.replace(ref=f'{MADE}{ctx.random.getrandbits(128):032x}'))


def spoken(response: ModelResponse, model: str, came: tuple[ModelResponse, LlmResponse] | None) -> LlmResponse:
    """The answer for the ADK: `came` is what a model of the ADK gave, and as what; it is used where the layers left it as it was.

    What layers noted is `custom_metadata['lamella']`; the notes of a fallback stand beside it too, under the names that
    `FallbackPlugin` gives them.
    """
    before: JSON = {}
    if came is not None and _is_same(response, came[0]):
        before, answer = came[0].metadata, came[1].model_copy()
        if response.usage != came[0].usage:
            answer.usage_metadata = _encoded(response, model).usage_metadata
    else:
        answer = _encoded(response, model)
        for name, value in response.metadata.get(NOTE, {}).items():
            if name in LlmResponse.model_fields:
                setattr(answer, name, getattr(LlmResponse.model_validate({name: value}), name))
    notes = {
        name: value
        for name, value in response.metadata.items()
        if name not in _OF_THE_CODEC and before.get(name) != value
    }
    if notes:
        fallback = notes.get('fallback')
        seed = fallback if isinstance(fallback, Mapping) else {}
        written = to_jsonable_python({'lamella': notes, **seed}, serialize_unknown=True)
        answer.custom_metadata = {**(answer.custom_metadata or {}), **written}
    return answer


def _is_same(said: ModelResponse, came: ModelResponse) -> bool:
    return (
        said.message == came.message
        and said.finish_reason == came.finish_reason
        and said.metadata.get('gemini') == came.metadata.get('gemini')
    )


def _encoded(response: ModelResponse, model: str) -> LlmResponse:
    body = CODEC.encode_response(response, model=model)
    answer: LlmResponse = LlmResponse.create(types.GenerateContentResponse.model_validate_json(body))
    for call in answer.get_function_calls():
        if (call.id or '').startswith(MADE):
            call.id = None  # the ADK gives its own, a new one each time
    return answer


def partial(text: str, *, thought: bool = False, **fields: Any) -> LlmResponse:
    """A piece of an answer, for display."""
    part = types.Part(text=text, thought=True) if thought else types.Part(text=text)
    return LlmResponse(content=types.Content(role='model', parts=[part]), partial=True, **fields)
