"""What each layer of the catalog adds: to a whole `generate` on an instant model, to each part of a stream, or to a tool call.

No promise, but figures to watch; the floor is a layer that passes everything on. A new layer is one line in `LAYERS`. Layers
that remember do so in memory here: what a verb costs on the other stores is measured in `stores`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.measure import Result, per_call_now, show
from benchmarks.subjects import PIECES, PassModel, PassStream, PassTool, app
from lamella import Lamella, Usage
from lamella.core.prices import BUNDLED, Price
from lamella.middleware import (
    AddToolInputExamples,
    Cache,
    CircuitBreaker,
    ConcurrencyLimit,
    ConsoleLogger,
    ContentPolicy,
    CostTracking,
    DefaultInstructions,
    DefaultSettings,
    ExtractJson,
    ExtractReasoning,
    Fallback,
    Hedge,
    Idempotency,
    LoopGuard,
    MemoryRecall,
    OTelMiddleware,
    PIIRedaction,
    PromptInjectionScreen,
    RateLimit,
    Recorder,
    Retry,
    RetryBudget,
    Sandbox,
    SimulateStreaming,
    TenantBudget,
    Timeout,
    ToolApproval,
    ToolOutputTruncation,
    ToolRetry,
    ToolTimeout,
)

PARTS = len(PIECES) + 2
PRICES = {'bench/*': {'input_per_mtok': 1, 'output_per_mtok': 2}}
Layers = dict[str, Callable[[], Any]]

# Layers around model calls: measured on a whole call and on a stream. One line each, in order.
LAYERS: Layers = {
    'AddToolInputExamples': lambda: AddToolInputExamples(),
    'Cache(hit)': lambda: Cache(),
    'Cache(miss)': lambda: Cache(ttl_s=1e-9, scope='miss'),
    'ConcurrencyLimit': lambda: ConcurrencyLimit(max_concurrent=10),
    'ConcurrencyLimit(gradient)': lambda: ConcurrencyLimit(max_concurrent=10, adaptive='gradient'),
    'CircuitBreaker': lambda: CircuitBreaker(),
    'ConsoleLogger': lambda: ConsoleLogger(stream=io.StringIO()),
    'CostTracking(own prices)': lambda: CostTracking(prices=PRICES),
    'CostTracking(genai-prices)': lambda: CostTracking(prices=_AsGPT5()),
    'ContentPolicy': lambda: ContentPolicy(banned=['secret plan', 'acme']),
    'DefaultInstructions': lambda: DefaultInstructions(text='Be brief.'),
    'DefaultSettings': lambda: DefaultSettings(config={'temperature': 0.0}),
    'ExtractJson': lambda: ExtractJson(),
    'ExtractReasoning': lambda: ExtractReasoning(tag_name='think'),
    'Fallback': lambda: Fallback(models=['bench/tools']),
    'MemoryRecall': lambda: MemoryRecall(),
    'OTelMiddleware(no SDK)': lambda: OTelMiddleware(),
    'OTelMiddleware(SDK)': lambda: OTelMiddleware(tracer=_provider()),
    'PIIRedaction': lambda: PIIRedaction(),
    'RateLimit(calls)': lambda: RateLimit(max_calls=10**9, per_s=1),
    'RateLimit(tokens)': lambda: RateLimit(max_calls=10**9, max_tokens=10**12, per_s=1),
    'Recorder': lambda: Recorder(Path(mkdtemp()) / 'runs.jsonl'),
    'Hedge(delay_s)': lambda: Hedge(delay_s=60),
    'Hedge(percentile)': lambda: Hedge(percentile=99, min_samples=200),
    'Retry': lambda: Retry(),
    'RetryBudget': lambda: RetryBudget(),
    'SimulateStreaming': lambda: SimulateStreaming(),
    'TenantBudget(tokens)': lambda: TenantBudget(max_tokens=10**15, key=None),
    'TenantBudget(dollars)': lambda: TenantBudget(max_cost_usd=1e9, key=None, prices=PRICES),
    'Timeout(total_s)': lambda: Timeout(total_s=60),
    'Timeout(idle_s)': lambda: Timeout(idle_s=60),
}
# Layers around tools: measured on one tool round.
TOOL_LAYERS: Layers = {
    'LoopGuard': lambda: LoopGuard(),
    'Idempotency': lambda: Idempotency(tools=['add'], scope='run'),
    'Idempotency(replay)': lambda: Idempotency(tools=['add']),
    'PIIRedaction': lambda: PIIRedaction(),
    'Recorder': lambda: Recorder(Path(mkdtemp()) / 'runs.jsonl'),
    'PromptInjectionScreen': lambda: PromptInjectionScreen(),
    'Sandbox(of other tools)': lambda: Sandbox(tools=['other'], walls=[]),
    'ToolApproval': lambda: ToolApproval(allowed_tools=['add']),
    'ToolOutputTruncation': lambda: ToolOutputTruncation(max_chars=1000),
    'ToolRetry': lambda: ToolRetry(tools=['add']),
    'ToolTimeout': lambda: ToolTimeout(timeout_s=60),
}


class _AsGPT5:
    """The package's price of one model for every model."""

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        return BUNDLED.cost('openai', 'gpt-5', usage)


class _Nowhere(SpanExporter):
    """Takes every span at once and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _provider() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider


def run() -> list[Result]:
    ai = app()
    return [
        *_table('call', _whole, ai, {'a layer that passes on': PassModel, **LAYERS}, 1),
        *_table('part', _stream, ai, {'a layer that passes on': PassStream, **LAYERS}, PARTS),
        *_table('tool call', _tool_round, ai, {'a layer that passes on': PassTool, **TOOL_LAYERS}, 1),
    ]


def _table(unit: str, work: Callable[..., Any], ai: Lamella, layers: Layers, many: int) -> list[Result]:
    """What each layer adds to one `unit`; the first layer is the floor."""
    works = {name: work(ai, [make()]) for name, make in layers.items()}
    best = per_call_now({'nothing': work(ai, []), **works}, count=500 if many == 1 else 1)
    added = {name: (best[name] - best['nothing']) / many for name in works}
    floor = next(iter(added.values()))
    return [Result(f'{name}, each {unit}', value, 'µs', floor) for name, value in added.items()]


def _whole(ai: Lamella, use: list[Any]) -> Callable[[], Any]:
    return lambda: ai.generate(model='bench/instant', prompt='hi', use=use)


def _stream(ai: Lamella, use: list[Any]) -> Callable[[], Any]:
    async def read() -> None:
        async for _ in ai.generate_stream(model='bench/stream', prompt='hi', use=use):
            pass

    return read


def _tool_round(ai: Lamella, use: list[Any]) -> Callable[[], Any]:
    return lambda: ai.generate(model='bench/tools', prompt='hi', tools=['add'], use=use)


if __name__ == '__main__':
    show(run())
