"""One instance of each layer of the catalog: one line for each that cannot be built without settings, or would print or wait."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lamella import middleware as catalog
from lamella.core.middleware import BaseMiddleware
from lamella.plugins.middleware import Middleware

LAYERS: dict[str, type[BaseMiddleware[Any]]] = dict(Middleware().middleware())

# By registry name; one line each, in order.
SKILLS = Path(__file__).resolve().parents[2] / 'examples' / 'skills'
SAMPLES: dict[str, Callable[[], BaseMiddleware[Any]]] = {
    'concurrency_limit': lambda: catalog.ConcurrencyLimit(max_concurrent=4),
    'console_logger': lambda: catalog.ConsoleLogger(stream=io.StringIO()),
    'content_policy': lambda: catalog.ContentPolicy(banned=['acme']),
    'default_instructions': lambda: catalog.DefaultInstructions(text='Be brief.'),
    'extract_reasoning': lambda: catalog.ExtractReasoning(tag_name='think'),
    'fallback': lambda: catalog.Fallback(models=['v/b'], on_partial='restart'),
    'filesystem': lambda: catalog.Filesystem(root_dir=tempfile.gettempdir()),
    'skills': lambda: catalog.Skills(skill_paths=[SKILLS]),
    'idempotency': lambda: catalog.Idempotency(tools=['look']),
    'mcp': lambda: catalog.MCP(command=('true',)),
    'model_fallback': lambda: catalog.Fallback(models=['v/b'], commit='finish'),
    'rate_limit': lambda: catalog.RateLimit(max_calls=1000, per_s=1),
    'recorder': lambda: catalog.Recorder(Path(tempfile.mkdtemp()) / 'runs.jsonl'),
    'replayer': lambda: catalog.Replayer(_recording(), strict=False),
    'retry': lambda: catalog.Retry(on_partial='restart', no_jitter=True),
    'sandbox': lambda: catalog.Sandbox(tools=['other'], walls=[]),
    'tenant_budget': lambda: catalog.TenantBudget(max_tokens=10**9, window_s=60),
    'tool_output_truncation': lambda: catalog.ToolOutputTruncation(max_chars=1000),
    'tool_retry': lambda: catalog.ToolRetry(tools=['look']),
    'tool_timeout': lambda: catalog.ToolTimeout(timeout_s=60),
    'hedge': lambda: catalog.Hedge(delay_s=9),
    'timeout': lambda: catalog.Timeout(total_s=60, first_content_s=9, idle_s=9),
}


def _recording() -> Path:
    """A recording of another run: every call departs from it."""
    path = Path(tempfile.mkdtemp()) / 'runs.jsonl'
    path.write_text('{"type":"run","lamella_recording":1,"run":"r","at":1.0,"model":"m","request":null}\n')
    return path


def sample(name: str) -> BaseMiddleware[Any]:
    """A new instance. Raises ConfigError for a layer that needs settings and has no line above."""
    return SAMPLES[name]() if name in SAMPLES else LAYERS[name]()
