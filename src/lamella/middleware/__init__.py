"""Floor 2, the catalog: one file, one layer; with the contract that layers are written against."""

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.functional import generate_middleware
from lamella.core.middleware import BaseMiddleware
from lamella.core.models import wrap_language_model
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.core.stack import Stack
from lamella.middleware.resilience.fallback import Fallback, ModelFallback
from lamella.middleware.resilience.retry import Retry
from lamella.middleware.tools.tool_approval import ToolApproval
from lamella.middleware.trace.console_logger import ConsoleLogger

__all__ = [
    'BaseMiddleware',
    'ConsoleLogger',
    'Fallback',
    'GenerateHookParams',
    'GenerateMiddlewareContext',
    'ModelFallback',
    'ModelHookParams',
    'Retry',
    'RunHookParams',
    'Stack',
    'ToolApproval',
    'ToolHookParams',
    'generate_middleware',
    'wrap_language_model',
]
