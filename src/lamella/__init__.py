"""Lamella: thin layers around every model call and every tool call, written once and used everywhere."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.core.embedders import wrap_embedding_model
    from lamella.core.models import ModelRef
    from lamella.core.session import Session
    from lamella.core.stack import Stack
    from lamella.core.timeouts import Timeouts
    from lamella.core.tools import Tool, ToolContext
    from lamella.core.wrapped import wrap_language_model, wrap_provider
    from lamella.engine.app import Lamella
    from lamella.engine.approval_settings import ApprovalSettings
    from lamella.engine.interrupts import deny_tool, respond_to_tool, restart_tool
    from lamella.types import (
        GenerateResponse,
        Interrupt,
        LamellaError,
        MediaPart,
        Message,
        ModelRequest,
        ModelResponse,
        StopRun,
        StreamPart,
        TextDelta,
        TextPart,
        ToolError,
        Usage,
        fold,
    )

# Loaded when first used: `lamella --help`, and a program that needs the types alone, do not pay for the engine.
_PLACES = {
    'ApprovalSettings': 'lamella.engine.approval_settings',
    'GenerateResponse': 'lamella.types',
    'Interrupt': 'lamella.types',
    'Lamella': 'lamella.engine.app',
    'LamellaError': 'lamella.types',
    'MediaPart': 'lamella.types',
    'Message': 'lamella.types',
    'ModelRef': 'lamella.core.models',
    'ModelRequest': 'lamella.types',
    'ModelResponse': 'lamella.types',
    'Session': 'lamella.core.session',
    'Stack': 'lamella.core.stack',
    'StopRun': 'lamella.types',
    'StreamPart': 'lamella.types',
    'TextDelta': 'lamella.types',
    'TextPart': 'lamella.types',
    'Timeouts': 'lamella.core.timeouts',
    'Tool': 'lamella.core.tools',
    'ToolContext': 'lamella.core.tools',
    'ToolError': 'lamella.types',
    'Usage': 'lamella.types',
    'deny_tool': 'lamella.engine.interrupts',
    'fold': 'lamella.types',
    'respond_to_tool': 'lamella.engine.interrupts',
    'restart_tool': 'lamella.engine.interrupts',
    'wrap_embedding_model': 'lamella.core.embedders',
    'wrap_language_model': 'lamella.core.wrapped',
    'wrap_provider': 'lamella.core.wrapped',
}
_FLOORS = ('core', 'engine', 'types')


if not TYPE_CHECKING:  # a type checker shall know each name, and no others

    def __getattr__(name: str) -> Any:
        if name in _FLOORS:
            return import_module(f'lamella.{name}')
        if name not in _PLACES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        value = globals()[name] = getattr(import_module(_PLACES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    'ApprovalSettings',
    'GenerateResponse',
    'Interrupt',
    'Lamella',
    'LamellaError',
    'MediaPart',
    'Message',
    'ModelRef',
    'ModelRequest',
    'ModelResponse',
    'Session',
    'Stack',
    'StopRun',
    'StreamPart',
    'TextDelta',
    'TextPart',
    'Timeouts',
    'Tool',
    'ToolContext',
    'ToolError',
    'Usage',
    'deny_tool',
    'fold',
    'respond_to_tool',
    'restart_tool',
    'wrap_embedding_model',
    'wrap_language_model',
    'wrap_provider',
]
