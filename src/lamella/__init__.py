"""Lamella: thin layers around every model call and every tool call, written once and used everywhere."""

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
