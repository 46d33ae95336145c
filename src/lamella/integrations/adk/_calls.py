"""One call of a `LamellaLlm`: the ADK's own request, and what its models said to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse

from lamella.types import LamellaError, ModelRequest, ModelResponse


@dataclass(slots=True)
class Call:
    """`came` are the answers of ADK models, in turn, each with what layers saw of it; `failed` the errors, each with what it
    was: raised by a model, or answered."""

    llm: BaseLlm
    llm_request: LlmRequest
    request: ModelRequest
    came: list[tuple[ModelResponse, LlmResponse]] = field(default_factory=list)
    failed: list[tuple[LamellaError, Exception | LlmResponse]] = field(default_factory=list)

    def origin_of(self, error: LamellaError) -> Exception | LlmResponse | None:
        """What a model of the ADK raised or answered, if this is the error that it became."""
        for made, origin in self.failed:
            if made is error:
                return origin
        return None

    def same_as(self, response: ModelResponse) -> tuple[ModelResponse, LlmResponse] | None:
        """The answer that this one is, or was before layers changed it."""
        for seen, answer in reversed(self.came):
            if seen.message == response.message:
                return seen, answer
        return None


class Context(dict[str, Any]):
    """The caller's values, with the call beside them: layers that print or record a context do not meet it."""

    call: Call

    @classmethod
    def of(cls, values: Mapping[str, Any], call: Call) -> Context:
        context = cls(values)
        context.call = call
        return context
