"""Floor 2, the catalog: one file, one layer; with the contract that layers are written against."""

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedders import wrap_embedding_model
from lamella.core.functional import generate_middleware
from lamella.core.memory import Match, Memory
from lamella.core.middleware import BaseMiddleware
from lamella.core.order import Order, OrderWarning
from lamella.core.params import (
    Continuing,
    EmbedHookParams,
    Escort,
    GenerateHookParams,
    ModelHookParams,
    RunHookParams,
    ToolHookParams,
)
from lamella.core.stack import Stack
from lamella.core.wrapped import wrap_language_model, wrap_provider
from lamella.middleware._memory_sqlite import SQLiteMemory
from lamella.middleware._recording import Recording
from lamella.middleware.cost.cache import Cache
from lamella.middleware.cost.cost_tracking import CostTracking
from lamella.middleware.cost.tenant_budget import TenantBudget
from lamella.middleware.limits.concurrency_limit import ConcurrencyLimit
from lamella.middleware.limits.rate_limit import RateLimit
from lamella.middleware.memory.memory_recall import MemoryRecall
from lamella.middleware.memory.recorder import Recorder
from lamella.middleware.memory.replayer import Replayer
from lamella.middleware.resilience.circuit_breaker import CircuitBreaker
from lamella.middleware.resilience.fallback import Fallback, ModelFallback
from lamella.middleware.resilience.hedge import Hedge
from lamella.middleware.resilience.idempotency import Idempotency
from lamella.middleware.resilience.loop_guard import LoopGuard
from lamella.middleware.resilience.retry import Retry
from lamella.middleware.resilience.retry_budget import RetryBudget
from lamella.middleware.resilience.timeout import Timeout
from lamella.middleware.safety.content_policy import ContentPolicy
from lamella.middleware.safety.pii_redaction import PIIRedaction
from lamella.middleware.safety.prompt_injection_screen import PromptInjectionScreen
from lamella.middleware.shaping.add_tool_input_examples import AddToolInputExamples
from lamella.middleware.shaping.compaction import Compaction
from lamella.middleware.shaping.default_embedding_settings import DefaultEmbeddingSettings
from lamella.middleware.shaping.default_instructions import DefaultInstructions
from lamella.middleware.shaping.default_settings import DefaultSettings
from lamella.middleware.shaping.extract_json import ExtractJson
from lamella.middleware.shaping.extract_reasoning import ExtractReasoning
from lamella.middleware.shaping.simulate_streaming import SimulateStreaming
from lamella.middleware.shaping.structured_output import StructuredOutput
from lamella.middleware.tools.artifacts import Artifacts
from lamella.middleware.tools.filesystem import Filesystem
from lamella.middleware.tools.mcp import MCP
from lamella.middleware.tools.sandbox import Sandbox
from lamella.middleware.tools.skills import Skills
from lamella.middleware.tools.tool_approval import ToolApproval
from lamella.middleware.tools.tool_output_truncation import ToolOutputTruncation
from lamella.middleware.tools.tool_retry import ToolRetry
from lamella.middleware.tools.tool_timeout import ToolTimeout
from lamella.middleware.trace.console_logger import ConsoleLogger
from lamella.middleware.trace.otel_middleware import OTelMiddleware

__all__ = [
    'MCP',
    'AddToolInputExamples',
    'Artifacts',
    'BaseMiddleware',
    'Cache',
    'CircuitBreaker',
    'Compaction',
    'ConcurrencyLimit',
    'ConsoleLogger',
    'ContentPolicy',
    'Continuing',
    'CostTracking',
    'DefaultEmbeddingSettings',
    'DefaultInstructions',
    'DefaultSettings',
    'EmbedHookParams',
    'Escort',
    'ExtractJson',
    'ExtractReasoning',
    'Fallback',
    'Filesystem',
    'GenerateHookParams',
    'GenerateMiddlewareContext',
    'Hedge',
    'Idempotency',
    'LoopGuard',
    'Match',
    'Memory',
    'MemoryRecall',
    'ModelFallback',
    'ModelHookParams',
    'OTelMiddleware',
    'Order',
    'OrderWarning',
    'PIIRedaction',
    'PromptInjectionScreen',
    'RateLimit',
    'Recorder',
    'Recording',
    'Replayer',
    'Retry',
    'RetryBudget',
    'RunHookParams',
    'SQLiteMemory',
    'Sandbox',
    'SimulateStreaming',
    'Skills',
    'Stack',
    'StructuredOutput',
    'TenantBudget',
    'Timeout',
    'ToolApproval',
    'ToolHookParams',
    'ToolOutputTruncation',
    'ToolRetry',
    'ToolTimeout',
    'generate_middleware',
    'wrap_embedding_model',
    'wrap_language_model',
    'wrap_provider',
]
