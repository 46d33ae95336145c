"""What a call may say: the keywords of `generate`, once for all doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.models import ModelRef
from lamella.core.session import Session
from lamella.core.stack import Stack
from lamella.core.timeouts import Timeouts
from lamella.core.tools import Tool
from lamella.engine.interrupts import ToolAnswer, ToolRestart
from lamella.types import GenerationConfig, MessageLike, Part, ToolChoice


class GenerateOptions(TypedDict, total=False):
    """The keywords of `generate` and `generate_stream`.

    `model` is a name (`provider/model`), a model, a `ModelRef` or a function; the app's own when left out. `prompt` is added
    to `messages` as a user message, `system` in front; neither is a template. `tools` are functions, `Tool`s or registered
    names; `tool_choice` is `auto`, `none`, `required` or a tool's name. `output_schema` is a type or a JSON Schema and makes
    `response.output`. `use` are the layers of this call, the first outermost. `context` holds values for layers and tools.
    `session` is a session or the id of one: the run goes on from its history, and adds what happened to it.
    `durable=True` keeps an interrupted run in the app's store until it is decided (`ai.approvals`), and `resume` is the id of
    one that goes on.
    `max_turns` bounds model calls, `max_cost_usd` and `max_tokens` what they use together: once one is reached, no other turn
    begins, and `stop_reason` says which. `timeout_s` is seconds for the whole run, or `Timeouts(total_s, first_content_s,
    idle_s)`.
    `resume_restart` and `resume_respond` take decisions on `response.interrupts`. `provider_options` maps a provider's name to
    its own options.
    """

    model: str | Model | ModelRef | Callable[..., Any] | None
    prompt: str | Part | Sequence[str | Part] | None
    system: str | None
    messages: Sequence[MessageLike] | None
    tools: Sequence[Callable[..., Any] | Tool | str] | None
    tool_choice: str | ToolChoice | None
    config: GenerationConfig | Mapping[str, Any] | None
    output_schema: Any
    output_format: Literal['json', 'text'] | None
    use: Sequence[BaseMiddleware[Any] | Stack] | None
    context: Mapping[str, Any] | None
    session: Session | str | None
    resume: str | None
    durable: bool | None
    max_turns: int | None
    max_cost_usd: float | None
    max_tokens: int | None
    timeout_s: float | Timeouts | None
    resume_restart: Sequence[ToolRestart | ToolAnswer] | None
    resume_respond: Sequence[ToolAnswer | ToolRestart] | None
    provider_options: Mapping[str, Mapping[str, Any]] | None


OPTIONS = frozenset(GenerateOptions.__annotations__)
