"""What a model, or a whole run, answered."""

from __future__ import annotations

from typing import Any, Literal

from lamella.types.base import JSON, Data
from lamella.types.messages import Message
from lamella.types.parts import ReasoningPart, TextPart, ToolRequestPart, ToolResponsePart
from lamella.types.stream import Source
from lamella.types.usage import Usage

FinishReason = Literal['stop', 'length', 'tool_calls', 'blocked', 'other', 'unknown']
StopReason = Literal[
    'final', 'interrupted', 'max_turns', 'max_cost', 'max_tokens', 'timeout', 'loop', 'guardrail', 'cancelled'
]


class ModelResponse(Data, frozen=True, kw_only=True):
    """The answer of one model call, or of one turn (then with the tools' answers).

    `message` has role `assistant`. `finish_reason` is the model's word and `finish_message` its explanation (a refusal, a
    block reason). `model` names the model that answered, `id` is the provider's. `metadata` is what layers and the provider
    noted, `warnings` what could not be said in the provider's protocol. `tool_responses` and `interrupts` are filled by the
    turn: what the requested tools answered, and which of them wait for a decision.
    """

    message: Message = Message('assistant', ())
    finish_reason: FinishReason = 'stop'
    finish_message: str | None = None
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    sources: tuple[Source, ...] = ()
    metadata: JSON = {}
    warnings: tuple[str, ...] = ()
    tool_responses: tuple[ToolResponsePart, ...] = ()
    interrupts: tuple[ToolRequestPart, ...] = ()

    @classmethod
    def text_of(cls, text: str, **fields: Any) -> ModelResponse:
        """An answer that is only text. `fields` are any other fields of the response."""
        return cls(message=Message('assistant', (TextPart(text),)), **fields)

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def reasoning(self) -> str:
        """All reasoning parts joined."""
        return ''.join([part.text for part in self.message.content if type(part) is ReasoningPart])

    @property
    def tool_requests(self) -> tuple[ToolRequestPart, ...]:
        return self.message.tool_requests


class GenerateResponse(ModelResponse, frozen=True, kw_only=True):
    """The answer of a whole run.

    `output` is the value that fits the asked-for schema, `messages` the whole conversation with the answer at its end,
    `turns` each turn's own response; `usage` is summed over all turns and attempts that were paid for.
    """

    output: Any = None
    stop_reason: StopReason = 'final'
    stop_message: str | None = None
    messages: tuple[Message, ...] = ()
    turns: tuple[ModelResponse, ...] = ()
